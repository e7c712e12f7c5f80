// Runs the program's parts on damaged input, in a build with sanitizers: every file that is named on the standard input
// is read as a bundle's manifest (*.json) or an image. One line for each: the exit code and the message, or ok.
#include "segc.hpp"

#include <iostream>

// Logits of a size that depends on the input, with a few that are not finite.
class Made : public segc::Network {
public:
    explicit Made(const segc::Manifest& manifest) : manifest_(manifest) {}
    segc::NetworkOutput run(const segc::NetworkInput& x, bool logits) override {
        const bool images = !x.images.empty();
        const int64_t height = std::max<int64_t>(1, x.shape[images ? 1 : 2] / 4),
                      width = std::max<int64_t>(1, x.shape[images ? 2 : 3] / 4);
        segc::NetworkOutput output;
        if (manifest_.output.mask && !manifest_.output.decode && !logits) {
            output.shape = {x.shape[0], height, width};
            const std::vector<uint8_t> classes(output.count(), 1);
            output.take(classes.data());
            return output;
        }
        output.shape = {x.shape[0], manifest_.output.channels, height, width};
        std::vector<float> values(output.count());
        for (size_t i = 0; i < values.size(); i++) values[i] = static_cast<float>((i * 7919) % 101) - 50;
        if (values.size() > 40) values[values.size() / 3] = std::numeric_limits<float>::quiet_NaN();
        output.take(values.data());
        return output;
    }

private:
    const segc::Manifest manifest_;
};

static segc::Image photograph() {
    segc::Image image{23, 31, 3, {}};
    std::vector<uint8_t> pixels(image.count());
    for (size_t i = 0; i < pixels.size(); i++) pixels[i] = static_cast<uint8_t>(i * 37);
    image.data = pixels;
    return image;
}

// What the manifest asks for is within a sanitizer's memory and patience.
static void require_small(const segc::Manifest& how) {
    const auto area = [](double high, double wide) { return std::max(high, 64.0) * std::max(wide, 64.0); };
    const segc::InputSpec& input = how.input;
    const double batch = static_cast<double>(input.batch.low) * std::max(how.output.channels, input.channels);
    double most = area(std::max(input.height.low, input.divisor), std::max(input.width.low, input.divisor)) * batch;
    most = std::max(most, area(how.crop[0], how.crop[1]) * batch);
    most = std::max(most,
                    area(std::max(how.pad_size[0], how.pad_divisor), std::max(how.pad_size[1], how.pad_divisor)) * 8);
    for (const segc::Step& step : how.steps) {
        const double side = std::max({step.divisor, step.shortest, step.longest, step.multiple, 1});
        const double factor = std::max({step.factor[0], step.factor[1], 1.0});
        most = std::max({most, area(step.size[0], step.size[1]) * 8, side * side * 8, 1000 * factor * factor * 8});
    }
    if (most > 1 << 23) throw segc::Error(segc::Kind::shape, "too large for this check");
}

static void read(const std::string& path) {
    const std::vector<uint8_t> content = segc::read_file(path, segc::Kind::file, 1 << 24);
    if (path.size() < 5 || path.compare(path.size() - 5, 5, ".json") != 0) {
        segc::Manifest plain;
        segc::decode_image(content, plain, 1 << 20);
        return;
    }
    const segc::Manifest manifest = segc::parse_manifest(std::string(content.begin(), content.end()));
    require_small(manifest);
    Made network(manifest);
    const segc::Mask mask = segc::Engine(manifest, network, 2).segment(photograph());
    segc::png_of(mask, manifest);
}

int main() {
    for (std::string path; std::getline(std::cin, path);) {
        try {
            read(path);
            std::cout << "ok" << std::endl;
        } catch (const segc::Error& error) {
            std::string what = error.what();
            for (char& c : what)
                if (c < ' ' || c > '~') c = '?';
            std::cout << static_cast<int>(error.kind) << " " << what << std::endl;
        }
    }
    return 0;
}
