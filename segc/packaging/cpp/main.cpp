// Segments images with the bundle that this program lies in. docs/cpp.md of segc has the whole story.
//
//     cmake -S BUNDLE/cpp -B build && cmake --build build
//     build/segment [--threads N] BUNDLE IMAGE MASK.png [IMAGE MASK.png ...]
//
// Masks are PNG files of class numbers with the classes' colours as palette. The exit code is 0, or that of the last
// failure: 2 arguments, 3 an image of a size that the engine does not take, 4 something this program cannot do, 6 the
// bundle, 8 a file, 9 the engine. An image that fails does not stop the others.
#include "segc.hpp"

#include "runner.hpp"

#include <cstdlib>
#include <iostream>

static int usage() {
    std::cerr << "usage: segment [--threads N] BUNDLE IMAGE MASK.png [IMAGE MASK.png ...]\n";
    return static_cast<int>(segc::Kind::usage);
}

int main(int argc, char** argv) {
    std::vector<std::string> words(argv + 1, argv + argc);
    int threads = 0;
    if (words.size() >= 2 && words[0] == "--threads") {
        threads = std::atoi(words[1].c_str());
        words.erase(words.begin(), words.begin() + 2);
        if (threads < 1 || threads > 1024) return usage();
    }
    if (words.size() < 3 || words.size() % 2 == 0) return usage();
    int code = 0;
    try {
        const segc::Manifest manifest = segc::read_manifest(words[0]);
        Runner network(words[0], manifest, threads);
        segc::Engine engine(manifest, network, threads);
        for (size_t at = 1; at < words.size(); at += 2) {
            try {
                const segc::Image image = segc::read_image(words[at], manifest);
                segc::write_mask(words[at + 1], engine.segment(image), manifest);
            } catch (const segc::Error& error) {
                std::cerr << "segment: " << error.what() << "\n";
                code = static_cast<int>(error.kind);
            }
        }
    } catch (const segc::Error& error) {
        std::cerr << "segment: " << error.what() << "\n";
        return static_cast<int>(error.kind);
    } catch (const std::bad_alloc&) {
        std::cerr << "segment: there is not enough memory\n";
        return static_cast<int>(segc::Kind::engine);
    } catch (const std::exception& error) {  // what the runtime throws
        std::cerr << "segment: " << error.what() << "\n";
        return static_cast<int>(segc::Kind::engine);
    }
    return code;
}
