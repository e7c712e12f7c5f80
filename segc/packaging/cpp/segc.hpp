// Everything around the engine of a bundle that segc compiled: its manifest, images, preprocessing, sliding windows,
// and masks from logits. C++17 and its standard library; the engine itself is a `Network`, see runner.hpp.
//
//     segc::Manifest manifest = segc::read_manifest("bundle");
//     Runner network("bundle", manifest, threads);
//     segc::Engine engine(manifest, network, threads);
//     segc::Mask mask = engine.segment(segc::read_image("image.png", manifest));
//
// The masks are those of segc's Python runtime: the arithmetic is the same, operation by operation, so compile with
// -ffp-contract=off. What a bundle or an image needs and this header cannot do is refused: `Error` says what.
// SEGC_OPENCV: images are decoded by OpenCV, as in Python. SEGC_STB_IMAGE: JPEG is decoded by stb_image.h. Without
// either there are PNG, BMP and binary PPM and PGM.
#ifndef SEGC_HPP
#define SEGC_HPP

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <exception>
#include <fstream>
#include <limits>
#include <locale>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#if defined(SEGC_OPENCV)
#include <opencv2/core.hpp>
#include <opencv2/imgcodecs.hpp>
#elif defined(SEGC_STB_IMAGE)
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#define STBI_ONLY_JPEG
#define STBI_NO_STDIO
#define STBI_MAX_DIMENSIONS (1 << 20)
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-but-set-variable"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#endif
#include SEGC_STB_IMAGE
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif
#endif

namespace segc {

// ------------------------------------------------------------------------------------------------------------ errors

// What is wrong, as the exit code of the program says it.
enum class Kind {
    usage = 2,        // the arguments
    shape = 3,        // the engine does not take an image of this size
    unsupported = 4,  // the bundle or the image needs what this header cannot do
    bundle = 6,       // the bundle is damaged or not one
    file = 8,         // an image cannot be read, or a mask not written
    engine = 9,       // the runtime does not load or run the engine
};

class Error : public std::runtime_error {
public:
    Error(Kind kind, const std::string& what) : std::runtime_error(what), kind(kind) {}
    const Kind kind;
};

constexpr int64_t kMostPixels = int64_t(1) << 29;  // of an image, unless the caller says otherwise
constexpr int64_t kMostSide = int64_t(1) << 20;

inline std::vector<uint8_t> read_file(const std::string& path, Kind kind, int64_t most) {
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    const std::streamoff size = file ? std::streamoff(file.tellg()) : std::streamoff(-1);
    if (size < 0) throw Error(kind, "cannot read " + path);
    if (size > most) throw Error(kind, path + " is too large: " + std::to_string(size) + " bytes");
    std::vector<uint8_t> content(static_cast<size_t>(size));
    file.seekg(0);
    if (size > 0 && !file.read(reinterpret_cast<char*>(content.data()), size)) throw Error(kind, "cannot read " + path);
    return content;
}

// ------------------------------------------------------------------------------------------------------------ SHA-256

class Sha256 {
public:
    void add(const uint8_t* data, size_t size) {
        length_ += size;
        while (size > 0) {
            const size_t part = std::min(size, block_.size() - filled_);
            std::memcpy(block_.data() + filled_, data, part);
            filled_ += part;
            data += part;
            size -= part;
            if (filled_ == block_.size()) compress();
        }
    }

    // In lower-case hexadecimal digits. Nothing may be added afterwards.
    std::string digest() {
        const uint64_t bits = length_ * 8;
        const uint8_t one = 0x80, zero = 0;
        add(&one, 1);
        while (filled_ != 56) add(&zero, 1);
        for (int shift = 56; shift >= 0; shift -= 8) {
            const uint8_t byte = static_cast<uint8_t>(bits >> shift);
            add(&byte, 1);
        }
        static const char digits[] = "0123456789abcdef";
        std::string text;
        for (uint32_t word : state_)
            for (int shift = 28; shift >= 0; shift -= 4) text += digits[word >> shift & 15];
        return text;
    }

private:
    static uint32_t turned(uint32_t x, int by) { return x >> by | x << (32 - by); }

    void compress() {
        static const uint32_t keys[64] = {
            0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
            0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
            0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
            0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
            0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
            0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
            0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
            0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
        };
        std::array<uint32_t, 64> w;
        for (size_t i = 0; i < 16; i++) {
            w[i] = uint32_t(block_[4 * i]) << 24 | uint32_t(block_[4 * i + 1]) << 16 |
                   uint32_t(block_[4 * i + 2]) << 8 | block_[4 * i + 3];
        }
        for (size_t i = 16; i < 64; i++) {
            const uint32_t s0 = turned(w[i - 15], 7) ^ turned(w[i - 15], 18) ^ w[i - 15] >> 3;
            const uint32_t s1 = turned(w[i - 2], 17) ^ turned(w[i - 2], 19) ^ w[i - 2] >> 10;
            w[i] = w[i - 16] + s0 + w[i - 7] + s1;
        }
        std::array<uint32_t, 8> s = state_;
        for (size_t i = 0; i < 64; i++) {
            const uint32_t s1 = turned(s[4], 6) ^ turned(s[4], 11) ^ turned(s[4], 25);
            const uint32_t one = s[7] + s1 + ((s[4] & s[5]) ^ (~s[4] & s[6])) + keys[i] + w[i];
            const uint32_t s0 = turned(s[0], 2) ^ turned(s[0], 13) ^ turned(s[0], 22);
            const uint32_t two = s0 + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
            s = {one + two, s[0], s[1], s[2], s[3] + one, s[4], s[5], s[6]};
        }
        for (size_t i = 0; i < 8; i++) state_[i] += s[i];
        filled_ = 0;
    }

    std::array<uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                   0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    std::array<uint8_t, 64> block_{};
    size_t filled_ = 0;
    uint64_t length_ = 0;
};

// --------------------------------------------------------------------------------------------------------------- JSON

// A JSON value. Keys of an object are in the order of the file.
struct Json {
    enum class Type { null, boolean, number, text, list, object };
    Type type = Type::null;
    bool truth = false;
    double number = 0;
    std::string text;
    std::vector<std::string> keys;
    std::vector<Json> items;
};

// Reads JSON as RFC 8259 has it: UTF-8, no key twice, no depth above 64, no more than a million values.
class JsonReader {
public:
    explicit JsonReader(const std::string& text) : text_(text) {}

    Json read() {
        const Json value = value_at(0);
        skip_space();
        if (at_ != text_.size()) fail("more follows the value");
        return value;
    }

private:
    static constexpr int kDepth = 64, kValues = 1000000;

    [[noreturn]] void fail(const std::string& why) const {
        throw Error(Kind::bundle, "not JSON at byte " + std::to_string(at_) + ": " + why);
    }

    char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

    void skip_space() {
        while (at_ < text_.size() && std::strchr(" \t\r\n", text_[at_]) != nullptr && text_[at_] != '\0') at_++;
    }

    void expect(const char* word) {
        const size_t length = std::strlen(word);
        if (text_.compare(at_, length, word) != 0) fail(std::string("expected ") + word);
        at_ += length;
    }

    Json value_at(int depth) {
        if (depth > kDepth) fail("it is nested too deeply");
        if (++values_ > kValues) fail("it has too many values");
        skip_space();
        Json value;
        const char first = peek();
        if (first == '{') {
            read_object(depth, &value);
        } else if (first == '[') {
            read_list(depth, &value);
        } else if (first == '"') {
            value.type = Json::Type::text;
            value.text = read_text();
        } else if (first == 't' || first == 'f') {
            value.type = Json::Type::boolean;
            value.truth = first == 't';
            expect(value.truth ? "true" : "false");
        } else if (first == 'n') {
            expect("null");
        } else {
            value.type = Json::Type::number;
            value.number = read_number();
        }
        return value;
    }

    void read_object(int depth, Json* value) {
        value->type = Json::Type::object;
        at_++;
        skip_space();
        if (peek() == '}') {
            at_++;
            return;
        }
        std::map<std::string, bool> seen;
        while (true) {
            skip_space();
            if (peek() != '"') fail("expected a key");
            const std::string key = read_text();
            if (!seen.emplace(key, true).second) fail("the key '" + key + "' is there twice");
            skip_space();
            expect(":");
            value->keys.push_back(key);
            value->items.push_back(value_at(depth + 1));
            skip_space();
            if (peek() == '}') break;
            expect(",");
        }
        at_++;
    }

    void read_list(int depth, Json* value) {
        value->type = Json::Type::list;
        at_++;
        skip_space();
        if (peek() == ']') {
            at_++;
            return;
        }
        while (true) {
            value->items.push_back(value_at(depth + 1));
            skip_space();
            if (peek() == ']') break;
            expect(",");
        }
        at_++;
    }

    double read_number() {
        const size_t start = at_;
        if (peek() == '-') at_++;
        if (peek() == '0') {
            at_++;
        } else {
            digits();
        }
        if (peek() == '.') {
            at_++;
            digits();
        }
        if (peek() == 'e' || peek() == 'E') {
            at_++;
            if (peek() == '+' || peek() == '-') at_++;
            digits();
        }
        std::istringstream stream(text_.substr(start, at_ - start));
        stream.imbue(std::locale::classic());
        double number = 0;
        if (!(stream >> number) || !std::isfinite(number)) fail("a number is too large");
        return number;
    }

    void digits() {
        if (peek() < '0' || peek() > '9') fail("expected a value");
        while (peek() >= '0' && peek() <= '9') at_++;
    }

    std::string read_text() {
        std::string made;
        at_++;
        while (true) {
            if (at_ >= text_.size()) fail("a text does not end");
            const unsigned char c = static_cast<unsigned char>(text_[at_]);
            if (c == '"') break;
            if (c < 0x20) fail("a control character in a text");
            if (c == '\\') {
                at_++;
                read_escape(&made);
            } else {
                made += static_cast<char>(c);
                at_++;
            }
        }
        at_++;
        return made;
    }

    void read_escape(std::string* made) {
        static const char names[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
        const char name = peek();
        at_++;
        if (name == 'u') {
            uint32_t code = hexadecimal();
            if (code >= 0xD800 && code < 0xDC00) {
                expect("\\u");
                const uint32_t low = hexadecimal();
                if (low < 0xDC00 || low > 0xDFFF) fail("half of a character");
                code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
            } else if (code >= 0xDC00 && code < 0xE000) {
                fail("half of a character");
            }
            append_utf8(code, made);
            return;
        }
        const char* found = name == '\0' ? nullptr : std::strchr(names, name);
        if (found == nullptr) fail("an unknown escape");
        *made += meant[found - names];
    }

    uint32_t hexadecimal() {
        uint32_t code = 0;
        for (int i = 0; i < 4; i++, at_++) {
            static const char digits[] = "0123456789abcdef";
            const char c = peek() >= 'A' && peek() <= 'F' ? static_cast<char>(peek() - 'A' + 'a') : peek();
            const char* found = c == '\0' ? nullptr : std::strchr(digits, c);
            if (found == nullptr) fail("expected four hexadecimal digits");
            code = code << 4 | static_cast<uint32_t>(found - digits);
        }
        return code;
    }

    static void append_utf8(uint32_t code, std::string* made) {
        const auto add = [&](uint32_t byte) { *made += static_cast<char>(byte); };
        if (code < 0x80) {
            add(code);
        } else if (code < 0x800) {
            add(0xC0 | code >> 6);
            add(0x80 | (code & 63));
        } else if (code < 0x10000) {
            add(0xE0 | code >> 12);
            add(0x80 | (code >> 6 & 63));
            add(0x80 | (code & 63));
        } else {
            add(0xF0 | code >> 18);
            add(0x80 | (code >> 12 & 63));
            add(0x80 | (code >> 6 & 63));
            add(0x80 | (code & 63));
        }
    }

    const std::string& text_;
    size_t at_ = 0;
    int values_ = 0;
};

// A field of segc.json: a value and its name for messages. Every reader refuses other types and numbers out of range.
class Field {
public:
    Field(const Json& value, const std::string& name) : value_(&value), name_(name) {}

    const std::string& name() const { return name_; }
    bool is_null() const { return value_->type == Json::Type::null; }
    size_t size() const { return of(Json::Type::list, "a list").items.size(); }

    const Json* find(const std::string& key) const {
        const Json& object = of(Json::Type::object, "an object");
        for (size_t i = 0; i < object.keys.size(); i++)
            if (object.keys[i] == key) return &object.items[i];
        return nullptr;
    }
    bool has(const std::string& key) const {
        const Json* found = find(key);
        return found != nullptr && found->type != Json::Type::null;
    }
    Field at(const std::string& key) const {
        const Json* found = find(key);
        const std::string name = name_.empty() ? key : name_ + "." + key;
        if (found == nullptr) throw Error(Kind::bundle, "segc.json lacks " + name);
        return Field(*found, name);
    }
    Field at(size_t index) const {
        const Json& list = of(Json::Type::list, "a list");
        if (index >= list.items.size()) refuse("more entries");
        return Field(list.items[index], name_ + "[" + std::to_string(index) + "]");
    }
    const std::vector<std::string>& keys() const { return of(Json::Type::object, "an object").keys; }

    double number(double low = -3.4e38, double high = 3.4e38) const {
        const double found = of(Json::Type::number, "a number").number;
        if (!(found >= low && found <= high)) refuse("a number from " + shown(low) + " to " + shown(high));
        return found;
    }
    int64_t whole(int64_t low, int64_t high) const {
        const double found = number(static_cast<double>(low), static_cast<double>(high));
        if (found != std::floor(found)) refuse("a whole number");
        return static_cast<int64_t>(found);
    }
    int side() const { return static_cast<int>(whole(1, kMostSide)); }
    bool truth() const { return of(Json::Type::boolean, "true or false").truth; }
    const std::string& text() const { return of(Json::Type::text, "text").text; }
    const std::string& text(std::initializer_list<const char*> choices) const {
        std::string all;
        for (const char* choice : choices) {
            if (text() == choice) return text();
            all += (all.empty() ? "" : " or ") + std::string(choice);
        }
        refuse(all);
    }
    // (first, second), as (width, height) or (height, width).
    std::array<int, 2> pair() const {
        if (size() != 2) refuse("two numbers");
        return {at(0).side(), at(1).side()};
    }
    std::vector<double> numbers() const {
        std::vector<double> made;
        for (size_t i = 0; i < size(); i++) made.push_back(at(i).number());
        return made;
    }

    [[noreturn]] void refuse(const std::string& wanted) const {
        throw Error(Kind::bundle,
                    "segc.json cannot be used: " + (name_.empty() ? "the file" : name_) + ", needed: " + wanted);
    }

private:
    static std::string shown(double number) {
        std::ostringstream stream;
        stream.imbue(std::locale::classic());
        stream << number;
        return stream.str();
    }
    const Json& of(Json::Type type, const char* words) const {
        if (value_->type != type) refuse(words);
        return *value_;
    }

    const Json* value_;
    std::string name_;
};

// ----------------------------------------------------------------------------------------------------------- manifest

// A step of the preprocessing before normalization. Which fields count depends on `name`; docs/bundle.md lists them.
struct Step {
    std::string name, interpolation = "bilinear", mode = "constant";
    bool pillow = false, keep_ratio = false, square = false, floor = false, swap = false;
    std::array<int, 2> size{0, 0};       // (width, height); 0: none
    std::array<double, 2> factor{0, 0};  // of the width, of the height; 0: none
    int divisor = 0, shortest = 0, longest = 0, multiple = 1, channels = 0;
    std::vector<double> values, mean, std, weights;
    double gamma = 1, low = 0, high = 0;
};

struct Range {
    int low = 1, high = 0;  // high 0: no upper bound
};

// The least and the greatest batch, height and width, and what sides are multiples of.
struct InputSpec {
    std::string name;
    bool images = false;  // uint8 (N, H, W, 3), BGR; otherwise float32 (N, C, H, W)
    int channels = 3;
    Range batch, height, width;
    int divisor = 1;
    bool fixed_height = false, fixed_width = false;
};

struct OutputSpec {
    std::string name;
    bool mask = false;  // what a run gives: a mask, or logits
    int channels = 0;
    bool decode = false, beside = false;  // the engine gives the logits of the mask: always, or on request
    bool resize = false;                  // with either: they are resized to the input's size
    bool has_threshold = false;
    double threshold = 0;

    // Whether masks of images are made of logits.
    bool from_logits() const { return !mask || decode || beside; }
};

struct Manifest {
    std::string source, target;
    std::map<std::string, std::string> options;  // of the target, as texts; booleans are "true" and "false"
    InputSpec input;
    OutputSpec output;
    bool rgb = true;
    std::vector<double> mean, std;
    std::vector<std::vector<float>> table;  // in place of mean and std: 256 numbers for each channel
    std::vector<Step> steps;
    std::array<int, 2> pad_size{0, 0};  // (height, width); 0: none
    int pad_divisor = 0;
    float pad_value = 0;
    bool pad_kept = false;
    bool slide = false, align_corners = false, direct = false;
    std::array<int, 2> crop{0, 0}, stride{0, 0};  // (height, width)
    std::string loader_color = "color", decoder = "cv2";
    std::vector<std::string> classes;
    std::vector<std::array<uint8_t, 3>> palette;  // RGB
};

namespace detail {

inline Step read_step(const Field& field) {
    Step step;
    step.name = field.at("step").text();
    const auto has = [&](const char* key) { return field.has(key); };
    const std::string& name = step.name;
    if (has("interpolation")) {
        step.interpolation = field.at("interpolation").text({"nearest", "bilinear", "bicubic", "area", "lanczos"});
    }
    step.pillow =
        name == "pillow resize" || (has("backend") && field.at("backend").text({"cv2", "pillow"}) == "pillow");
    if (has("keep_ratio")) step.keep_ratio = field.at("keep_ratio").truth();
    if (name == "resize" || name == "pillow resize") {
        if (has("scale")) step.size = field.at("scale").pair();
        if (name == "resize" && has("factor")) {
            const Field factor = field.at("factor");
            if (factor.size() != 2) factor.refuse("two numbers");
            step.factor = {factor.at(0).number(1e-6, 1e6), factor.at(1).number(1e-6, 1e6)};
        }
        if (name == "pillow resize" && has("shortest")) step.shortest = field.at("shortest").side();
        if (name == "pillow resize" && has("longest")) step.longest = field.at("longest").side();
        if (has("multiple")) step.multiple = field.at("multiple").side();
        const bool other = name == "resize" ? step.factor[0] > 0 : step.shortest > 0;
        if ((step.size[0] > 0) == other) field.refuse("either a scale or its other form");
    } else if (name == "resize to multiple") {
        step.divisor = field.at("divisor").side();
    } else if (name == "resize shortest edge") {
        step.shortest = field.at("scale").side();
        step.longest = field.at("most").side();
    } else if (name == "pad") {
        if (has("size")) step.size = field.at("size").pair();
        if (has("divisor")) step.divisor = field.at("divisor").side();
        step.square = field.at("square").truth();
        step.values = field.at("values").numbers();
        step.mode = field.at("mode").text({"constant", "edge", "reflect", "symmetric"});
        if (step.values.empty()) field.refuse("values");
    } else if (name == "center crop") {
        step.size = field.at("size").pair();
        step.floor = has("floor");
    } else if (name == "normalize") {
        step.mean = field.at("mean").numbers();
        step.std = field.at("std").numbers();
        step.swap = field.at("swap").truth();
        if (step.mean.size() != step.std.size()) field.refuse("as many means as stds");
        for (double std : step.std)
            if (std == 0) field.refuse("stds other than 0");
    } else if (name == "gray") {
        step.weights = field.at("weights").numbers();
        step.channels = static_cast<int>(field.at("channels").whole(1, 4));
    } else if (name == "gamma") {
        step.gamma = field.at("gamma").number(1e-6, 1e6);
    } else if (name == "rerange") {
        step.low = field.at("low").number();
        step.high = field.at("high").number();
    } else {
        throw Error(Kind::unsupported, "the preprocessing has the step '" + name + "', which this program cannot do");
    }
    const auto can = [&](std::initializer_list<const char*> kinds) {
        return std::find(kinds.begin(), kinds.end(), step.interpolation) != kinds.end();
    };
    if (!(step.pillow ? can({"nearest", "bilinear", "bicubic", "lanczos"}) : can({"nearest", "bilinear"}))) {
        throw Error(Kind::unsupported, std::string("the preprocessing resizes with ") +
                                           (step.pillow ? "Pillow" : "OpenCV") + "'s interpolation '" +
                                           step.interpolation + "', which this program cannot do");
    }
    return step;
}

inline Range read_range(const Field& field) {
    if (field.size() != 2) field.refuse("two numbers");
    Range range;
    range.low = field.at(0).side();
    if (!field.at(1).is_null()) {
        range.high = field.at(1).side();
        if (range.high < range.low) field.refuse("a range");
    }
    return range;
}

inline InputSpec read_input(const Field& field) {
    InputSpec input;
    input.name = field.at("name").text();
    input.images = field.at("dtype").text({"float32", "uint8"}) == "uint8";
    field.at("layout").text({input.images ? "NHWC" : "NCHW"});
    const Field shape = field.at("shape");
    if (shape.size() != 4) shape.refuse("four sizes");
    input.channels = static_cast<int>(shape.at(1).whole(1, 1 << 16));
    Range* ranges[] = {&input.batch, nullptr, &input.height, &input.width};
    const char* names[] = {"batch", "", "height", "width"};
    for (size_t axis : {0, 2, 3}) {
        if (!shape.at(axis).is_null()) {
            ranges[axis]->low = ranges[axis]->high = shape.at(axis).side();
            continue;
        }
        if (field.at("dynamic").is_null()) field.at("dynamic").refuse("ranges for open sizes");
        *ranges[axis] = read_range(field.at("dynamic").at(names[axis]));
    }
    input.fixed_height = !shape.at(2).is_null();
    input.fixed_width = !shape.at(3).is_null();
    if (!field.at("dynamic").is_null()) input.divisor = field.at("dynamic").at("divisor").side();
    if (input.images && (input.channels != 3 || !input.fixed_height || !input.fixed_width)) shape.refuse("static, RGB");
    return input;
}

inline OutputSpec read_output(const Field& field) {
    OutputSpec output;
    output.name = field.at("name").text();
    output.mask = field.at("kind").text({"logits", "mask"}) == "mask";
    output.channels = static_cast<int>(field.at("channels").whole(1, 1 << 16));
    field.at("dtype").text({!output.mask ? "float32" : output.channels <= 256 ? "uint8" : "uint16"});
    output.has_threshold = !field.at("threshold").is_null();
    if (output.has_threshold) output.threshold = field.at("threshold").number();
    if (output.channels == 1 && !output.has_threshold)
        field.at("threshold").refuse("a number for a head with one channel");
    output.decode = field.has("decode");
    output.beside = field.has("beside");
    if ((output.decode || output.beside) && (!output.mask || output.decode == output.beside))
        field.refuse("one of the two");
    if (output.decode || output.beside)
        output.resize = field.at(output.decode ? "decode" : "beside").at("resize").truth();
    return output;
}

inline void read_preprocessing(const Field& field, Manifest* made) {
    made->rgb = field.at("channel_order").text({"RGB", "BGR"}) == "RGB";
    const size_t channels = static_cast<size_t>(made->input.channels);
    made->mean = field.at("mean").numbers();
    made->std = field.at("std").numbers();
    if (made->mean.size() != channels || made->std.size() != channels)
        field.refuse("a mean and a std for each channel");
    for (double std : made->std)
        if (std == 0) field.at("std").refuse("numbers other than 0");
    if (field.has("table")) {
        const Field table = field.at("table");
        if (table.size() != channels) table.refuse("a row for each channel");
        for (size_t c = 0; c < channels; c++) {
            const std::vector<double> row = table.at(c).numbers();
            if (row.size() != 256) table.at(c).refuse("256 numbers");
            made->table.emplace_back(row.begin(), row.end());
        }
    }
    if (field.has("steps")) {
        if (field.at("steps").size() > 100) field.at("steps").refuse("at most 100");
        for (size_t i = 0; i < field.at("steps").size(); i++) made->steps.push_back(read_step(field.at("steps").at(i)));
    }
    if (field.has("resize")) {
        if (field.has("steps")) field.at("resize").refuse("null beside steps");
        Step step;
        step.name = "resize";
        step.size = field.at("resize").at("scale").pair();
        step.keep_ratio = field.at("resize").at("keep_ratio").truth();
        made->steps.push_back(step);
    }
    const Field pad = field.at("pad");
    if (pad.has("size")) made->pad_size = pad.at("size").pair();
    if (pad.has("divisor")) made->pad_divisor = pad.at("divisor").side();
    made->pad_value = static_cast<float>(pad.at("value").number());
    made->pad_kept = pad.has("kept") && pad.at("kept").truth();
    made->loader_color = made->input.channels == 1 ? "grayscale" : "color";
    if (!field.has("loader")) {
        if (made->input.channels != 1 && made->input.channels != 3) {
            throw Error(Kind::unsupported, "the model takes " + std::to_string(made->input.channels) +
                                               " channels, this program reads one or three");
        }
        return;
    }
    const Field loader = field.at("loader");
    made->loader_color = loader.at("color").text();
    made->decoder = loader.at("decoder").text({"cv2", "pillow", "tifffile"});
    if (loader.at("float32").truth() || made->decoder == "tifffile" || made->loader_color == "unchanged") {
        throw Error(Kind::unsupported, "the model's images are read by " + made->decoder + " (" + made->loader_color +
                                           (loader.at("float32").truth() ? ", float32" : "") + "), not as 8 bits");
    }
    loader.at("color").text({"color", "grayscale", "color_ignore_orientation", "grayscale_ignore_orientation"});
}

inline void read_inference(const Field& field, Manifest* made) {
    made->slide = field.at("mode").text({"whole", "slide"}) == "slide";
    made->align_corners = field.at("align_corners").truth();
    made->direct = field.has("direct") && field.at("direct").truth();
    if (!made->slide) return;
    made->crop = field.at("crop").pair();
    made->stride = field.at("stride").pair();
    for (size_t i : {0, 1})
        if (made->stride[i] > made->crop[i]) field.at("stride").refuse("at most the crop");
    if (made->output.mask) field.refuse("logits, which overlapping windows average");
}

// Relative, below the folder, and with plain separators.
inline bool is_inside(const std::string& name) {
    if (name.empty() || name[0] == '/' || name.find_first_of(std::string("\\:\0", 3)) != std::string::npos)
        return false;
    std::stringstream parts(name + "/");
    for (std::string part; std::getline(parts, part, '/');)
        if (part.empty() || part == "." || part == "..") return false;
    return true;
}

// The digest that segc.json holds of itself: of its own bytes without the line of that digest.
inline void check_digest(const std::string& text, const std::string& given) {
    const std::string line = "\n  \"sha256\": \"" + given + "\"";
    const size_t at = text.find(line);
    Sha256 sha;
    if (at != std::string::npos) {
        size_t end = at + line.size();
        if (end < text.size() && text[end] == ',') end++;
        const std::string rest = text.substr(0, at) + text.substr(end);
        sha.add(reinterpret_cast<const uint8_t*>(rest.data()), rest.size());
    }
    if (at == std::string::npos || sha.digest() != given) {
        throw Error(Kind::bundle, "segc.json is damaged: its digest is not the one that it records");
    }
}

// Size and digest of a file that segc.json lists.
inline void check_file(const std::string& folder, const std::string& name, const Field& record) {
    std::ifstream file(folder + "/" + name, std::ios::binary);
    if (!file) throw Error(Kind::bundle, "the bundle lacks its file " + name);
    Sha256 sha;
    std::vector<char> block(1 << 16);
    int64_t bytes = 0;
    while (file) {
        file.read(block.data(), static_cast<std::streamsize>(block.size()));
        bytes += file.gcount();
        sha.add(reinterpret_cast<const uint8_t*>(block.data()), static_cast<size_t>(file.gcount()));
    }
    if (bytes != record.at("bytes").whole(0, int64_t(1) << 53) || sha.digest() != record.at("sha256").text()) {
        throw Error(Kind::bundle, "the bundle's file " + name + " is damaged: it is not the one that segc.json lists");
    }
}

}  // namespace detail

// The manifest in `text`, the content of a segc.json.
inline Manifest parse_manifest(const std::string& text) {
    const Json json = JsonReader(text).read();
    const Field root(json, "");
    if (root.at("format").whole(0, 1 << 20) != 1) root.at("format").refuse("format 1: use the program of a newer segc");
    detail::check_digest(text, root.at("sha256").text());
    Manifest made;
    made.source = root.at("source").at("name").text();
    made.target = root.at("target").at("name").text();
    if (root.at("segments").size() > 0) {
        throw Error(Kind::unsupported, "several engines share this model (segments), this program runs one");
    }
    const Field options = root.at("target").at("options");
    for (const std::string& key : options.keys()) {
        const Json& value = *options.find(key);
        std::ostringstream number;
        number.imbue(std::locale::classic());
        number << value.number;
        if (value.type == Json::Type::text) made.options[key] = value.text;
        if (value.type == Json::Type::boolean) made.options[key] = value.truth ? "true" : "false";
        if (value.type == Json::Type::number) made.options[key] = number.str();
    }
    made.input = detail::read_input(root.at("input"));
    made.output = detail::read_output(root.at("output"));
    detail::read_preprocessing(root.at("preprocessing"), &made);
    detail::read_inference(root.at("inference"), &made);
    const Field classes = root.at("classes"), palette = root.at("palette");
    if (palette.size() != classes.size()) palette.refuse("one colour for each class");
    for (size_t i = 0; i < classes.size(); i++) {
        made.classes.push_back(classes.at(i).text());
        if (palette.at(i).size() != 3) palette.at(i).refuse("three numbers");
        std::array<uint8_t, 3> colour;
        for (size_t c = 0; c < 3; c++) colour[c] = static_cast<uint8_t>(palette.at(i).at(c).whole(0, 255));
        made.palette.push_back(colour);
    }
    return made;
}

// The manifest of a bundle whose files are as it lists them. report.json and the program in cpp/ are not looked at.
inline Manifest read_manifest(const std::string& folder) {
    const std::vector<uint8_t> content = read_file(folder + "/segc.json", Kind::bundle, 16 << 20);
    const std::string text(content.begin(), content.end());
    Manifest made = parse_manifest(text);
    const Json json = JsonReader(text).read();
    const Field files = Field(json, "").at("files");
    for (const std::string& name : files.keys()) {
        if (!detail::is_inside(name))
            throw Error(Kind::bundle, "segc.json lists a file outside of the bundle: " + name);
        if (name != "report.json" && name.compare(0, 4, "cpp/") != 0) detail::check_file(folder, name, files.at(name));
    }
    return made;
}

// ------------------------------------------------------------------------------------------------------------- images

// Rows of pixels of interleaved channels, BGR where there are three.
struct Image {
    int height = 0, width = 0, channels = 0;
    std::variant<std::vector<uint8_t>, std::vector<float>, std::vector<double>> data;

    size_t count() const {
        return static_cast<size_t>(height) * static_cast<size_t>(width) * static_cast<size_t>(channels);
    }
    const std::vector<uint8_t>& bytes() const { return std::get<std::vector<uint8_t>>(data); }
    std::vector<uint8_t>& bytes() { return std::get<std::vector<uint8_t>>(data); }
};

namespace detail {

inline void require_size(int64_t height, int64_t width, int64_t most) {
    if (height < 1 || width < 1) throw Error(Kind::file, "the image has no pixels");
    if (height > kMostSide || width > kMostSide || height * width > most) {
        throw Error(Kind::file,
                    "the image is too large: " + std::to_string(width) + "x" + std::to_string(height) + " pixels");
    }
}

template <typename T>
Image blank(int height, int width, int channels, T value = T()) {
    if (int64_t(height) * width > kMostPixels) {
        throw Error(Kind::shape, "the preprocessing makes an image of " + std::to_string(width) + "x" +
                                     std::to_string(height) + " pixels, which is too large");
    }
    Image image{height, width, channels, {}};
    image.data = std::vector<T>(image.count(), value);
    return image;
}

// Bytes of a file. Reading beyond the end is an error: the file is cut off.
class Bytes {
public:
    Bytes(const uint8_t* data, size_t size) : data_(data), size_(size) {}
    size_t size() const { return size_; }
    const uint8_t* part(size_t at, size_t count) const {
        if (at > size_ || count > size_ - at) throw Error(Kind::file, "the image is cut off");
        return data_ + at;
    }
    uint32_t big(size_t at, size_t count) const {
        const uint8_t* from = part(at, count);
        uint32_t value = 0;
        for (size_t i = 0; i < count; i++) value = value << 8 | from[i];
        return value;
    }
    uint32_t little(size_t at, size_t count) const {
        const uint8_t* from = part(at, count);
        uint32_t value = 0;
        for (size_t i = count; i > 0; i--) value = value << 8 | from[i - 1];
        return value;
    }
    bool starts_with(const char* text, size_t count, size_t at = 0) const {
        return at <= size_ && count <= size_ - at && std::memcmp(data_ + at, text, count) == 0;
    }

private:
    const uint8_t* data_;
    size_t size_;
};

// The orientation that EXIF data (a TIFF header and its first directory) gives, 1 where it gives none.
inline int orientation_of(const Bytes& tiff) {
    try {
        const bool little = tiff.starts_with("II*\0", 4);
        if (!little && !tiff.starts_with("MM\0*", 4)) return 1;
        const auto number = [&](size_t at, size_t count) {
            return little ? tiff.little(at, count) : tiff.big(at, count);
        };
        const size_t directory = number(4, 4);
        const size_t entries = number(directory, 2);
        for (size_t i = 0; i < entries; i++) {
            const size_t entry = directory + 2 + 12 * i;
            if (number(entry, 2) != 0x112) continue;
            const uint32_t value = number(entry + 8, 2);
            return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
        }
    } catch (const Error&) {  // damaged EXIF data turns nothing
    }
    return 1;
}

// The image as EXIF's orientation says it is to be seen.
inline Image oriented(const Image& image, int orientation) {
    if (orientation <= 1) return image;
    const bool swaps = orientation >= 5;  // rows become columns
    const bool up = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;  // from the last row
    const bool left = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;  // the last column
    Image made = blank<uint8_t>(swaps ? image.width : image.height, swaps ? image.height : image.width, image.channels);
    const size_t channels = static_cast<size_t>(image.channels);
    uint8_t* to = made.bytes().data();
    for (int y = 0; y < made.height; y++) {
        for (int x = 0; x < made.width; x++, to += channels) {
            const int from_row = up ? image.height - 1 - (swaps ? x : y) : (swaps ? x : y);
            const int from_column = left ? image.width - 1 - (swaps ? y : x) : (swaps ? y : x);
            const size_t from =
                (static_cast<size_t>(from_row) * static_cast<size_t>(image.width) + static_cast<size_t>(from_column)) *
                channels;
            std::memcpy(to, image.bytes().data() + from, channels);
        }
    }
    return made;
}

inline uint32_t crc32(const uint8_t* data, size_t size, uint32_t before = 0) {
    static const std::array<uint32_t, 256> table = [] {
        std::array<uint32_t, 256> made{};
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t value = i;
            for (int bit = 0; bit < 8; bit++) value = value & 1 ? 0xEDB88320u ^ value >> 1 : value >> 1;
            made[i] = value;
        }
        return made;
    }();
    uint32_t value = ~before;
    for (size_t i = 0; i < size; i++) value = table[(value ^ data[i]) & 255] ^ value >> 8;
    return ~value;
}

inline uint32_t adler32(const uint8_t* data, size_t size) {
    uint32_t a = 1, b = 0;
    while (size > 0) {
        const size_t part = std::min<size_t>(size, 5552);  // as many as fit 32 bits before the remainder is taken
        for (size_t i = 0; i < part; i++) b += a += data[i];
        a %= 65521;
        b %= 65521;
        data += part;
        size -= part;
    }
    return b << 16 | a;
}

// Decompresses zlib data (RFC 1950, 1951) of a known size.
class Inflater {
public:
    explicit Inflater(const Bytes& source) : source_(source) {}

    std::vector<uint8_t> inflate(size_t size) {
        const uint32_t head = source_.big(0, 2);
        if ((head >> 8 & 15) != 8 || head % 31 != 0 || (head & 32) != 0) fail();
        at_ = 2;
        made_.reserve(size);
        bool last = false;
        while (!last) {
            last = bits(1) == 1;
            const uint32_t kind = bits(2);
            if (kind == 0) {
                stored(size);
            } else if (kind == 1) {
                fixed_codes();
                compressed(size);
            } else if (kind == 2) {
                dynamic_codes();
                compressed(size);
            } else {
                fail();
            }
        }
        at_ -= static_cast<size_t>(held_ / 8);  // whole bytes that were read ahead
        if (made_.size() != size || adler32(made_.data(), size) != source_.big(at_, 4)) fail();
        return std::move(made_);
    }

private:
    // A Huffman code as a table of all words of `longest` bits: length << 12 | symbol; 0 where no code is.
    struct Codes {
        int longest = 0;
        std::vector<uint16_t> table;
    };

    [[noreturn]] static void fail() { throw Error(Kind::file, "the image's compressed data is damaged"); }

    void need(int count) {
        while (held_ < count) {
            const uint64_t byte = at_ < source_.size() ? source_.big(at_, 1) : 0;
            if (at_ >= source_.size() + 8)
                fail();  // zeros stand behind the end, for codes shorter than what is looked at
            at_++;
            buffer_ |= byte << held_;
            held_ += 8;
        }
    }
    void drop(int count) {
        buffer_ >>= count;
        held_ -= count;
    }
    uint32_t bits(int count) {
        need(count);
        const uint32_t value = static_cast<uint32_t>(buffer_ & ((uint64_t(1) << count) - 1));
        drop(count);
        return value;
    }

    static Codes codes_of(const uint8_t* lengths, int count) {
        Codes codes;
        std::array<int, 17> numbers{};
        for (int i = 0; i < count; i++) numbers[lengths[i]]++;
        numbers[0] = 0;
        for (int length = 1; length <= 15; length++)
            if (numbers[static_cast<size_t>(length)] > 0) codes.longest = length;
        if (codes.longest == 0) return codes;
        int left = 1;
        for (size_t length = 1; length <= 15; length++) {
            left = 2 * left - numbers[length];
            if (left < 0) fail();  // more codes than there are words
        }
        std::array<uint32_t, 17> next{};
        for (size_t length = 1; length <= 15; length++) {
            next[length + 1] = (next[length] + static_cast<uint32_t>(numbers[length])) << 1;
        }
        codes.table.assign(size_t(1) << codes.longest, 0);
        for (int symbol = 0; symbol < count; symbol++) {
            const int length = lengths[symbol];
            if (length == 0) continue;
            const uint32_t code = next[static_cast<size_t>(length)]++;
            uint32_t turned = 0;  // codes come with their first bit first
            for (int bit = 0; bit < length; bit++) turned |= (code >> bit & 1) << (length - 1 - bit);
            for (size_t word = turned; word < codes.table.size(); word += size_t(1) << length) {
                codes.table[word] = static_cast<uint16_t>(length << 12 | symbol);
            }
        }
        return codes;
    }

    int symbol(const Codes& codes) {
        if (codes.longest == 0) fail();
        need(codes.longest);
        const uint16_t found = codes.table[buffer_ & (codes.table.size() - 1)];
        if (found == 0) fail();
        drop(found >> 12);
        return found & 0xFFF;
    }

    void stored(size_t size) {
        drop(held_ % 8);
        const uint32_t length = bits(16);
        if ((bits(16) ^ 0xFFFF) != length || made_.size() + length > size) fail();
        for (uint32_t i = 0; i < length; i++) made_.push_back(static_cast<uint8_t>(bits(8)));
        if (at_ - static_cast<size_t>(held_ / 8) > source_.size()) fail();
    }

    void fixed_codes() {
        std::array<uint8_t, 288> lengths{};
        for (size_t i = 0; i < 288; i++) lengths[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
        literals_ = codes_of(lengths.data(), 288);
        lengths.fill(5);
        distances_ = codes_of(lengths.data(), 30);
    }

    void dynamic_codes() {
        static const uint8_t order[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
        const int literals = static_cast<int>(bits(5)) + 257, distances = static_cast<int>(bits(5)) + 1;
        const int counted = static_cast<int>(bits(4)) + 4;
        if (literals > 286 || distances > 30) fail();
        std::array<uint8_t, 320> lengths{};
        for (int i = 0; i < counted; i++) lengths[order[i]] = static_cast<uint8_t>(bits(3));
        const Codes codes = codes_of(lengths.data(), 19);
        lengths.fill(0);
        for (int i = 0; i < literals + distances;) {
            const int found = symbol(codes);
            uint8_t value = static_cast<uint8_t>(found);
            int times = 1;
            if (found >= 16) {
                if (found == 16 && i == 0) fail();
                value = found == 16 ? lengths[static_cast<size_t>(i - 1)] : uint8_t(0);
                times = found == 16   ? 3 + static_cast<int>(bits(2))
                        : found == 17 ? 3 + static_cast<int>(bits(3))
                                      : 11 + static_cast<int>(bits(7));
            }
            if (i + times > literals + distances) fail();
            for (; times > 0; times--) lengths[static_cast<size_t>(i++)] = value;
        }
        literals_ = codes_of(lengths.data(), literals);
        distances_ = codes_of(lengths.data() + literals, distances);
    }

    void compressed(size_t size) {
        static const uint16_t length_base[29] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                                 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
        static const uint8_t length_extra[29] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                                 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
        static const uint16_t distance_base[30] = {1,    2,    3,    4,    5,    7,    9,    13,    17,    25,
                                                   33,   49,   65,   97,   129,  193,  257,  385,   513,   769,
                                                   1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
        while (true) {
            const int found = symbol(literals_);
            if (found == 256) return;
            if (found < 256) {
                if (made_.size() >= size) fail();
                made_.push_back(static_cast<uint8_t>(found));
                continue;
            }
            if (found > 285) fail();
            const size_t length = length_base[found - 257] + bits(length_extra[found - 257]);
            const int far = symbol(distances_);
            if (far > 29) fail();
            const size_t distance = distance_base[far] + bits(far < 4 ? 0 : far / 2 - 1);
            if (distance > made_.size() || length > size - made_.size()) fail();
            for (size_t i = 0; i < length; i++) made_.push_back(made_[made_.size() - distance]);
        }
    }

    const Bytes source_;
    size_t at_ = 0;
    uint64_t buffer_ = 0;
    int held_ = 0;
    std::vector<uint8_t> made_;
    Codes literals_, distances_;
};

// What a file holds before it becomes what a model's loader gives: 8 bits, grey (1), BGR (3) with alpha dropped.
struct Decoded {
    Image image;
    int orientation = 1;
    bool alpha = false, deep = false;
};

struct PngHeader {
    int width = 0, height = 0, depth = 0, colour = 0, interlaced = 0;
    size_t samples() const { return colour == 2 ? 3 : colour == 4 ? 2 : colour == 6 ? 4 : 1; }
    size_t line(int pixels) const {
        return (static_cast<size_t>(pixels) * samples() * static_cast<size_t>(depth) + 7) / 8;
    }
};

// The four filters of PNG, in place. stride: bytes of a pixel, at least 1.
inline void unfilter(uint8_t filter, uint8_t* line, const uint8_t* above, size_t size, size_t stride) {
    if (filter > 4) throw Error(Kind::file, "the image is damaged: an unknown filter");
    for (size_t i = 0; i < size && filter > 0; i++) {
        const int left = i >= stride ? line[i - stride] : 0, up = above != nullptr ? above[i] : 0;
        const int corner = i >= stride && above != nullptr ? above[i - stride] : 0;
        int guess = filter == 1 ? left : filter == 2 ? up : (left + up) / 2;
        if (filter == 4) {
            const int p = left + up - corner, a = std::abs(p - left), b = std::abs(p - up), c = std::abs(p - corner);
            guess = a <= b && a <= c ? left : b <= c ? up : corner;
        }
        line[i] = static_cast<uint8_t>(line[i] + guess);
    }
}

// The upper 8 bits of sample `at` of an unfiltered line; fewer than 8 bits of grey are stretched to 8.
inline int png_sample(const PngHeader& head, const uint8_t* line, size_t at) {
    if (head.depth == 8) return line[at];
    if (head.depth == 16) return line[2 * at];
    const size_t depth = static_cast<size_t>(head.depth), bit = at * depth;
    const int value = line[bit / 8] >> (8 - depth - bit % 8) & ((1 << depth) - 1);
    return head.colour == 3 ? value : value * 255 / ((1 << depth) - 1);
}

class PngReader {
public:
    PngReader(const Bytes& source, int64_t most) : source_(source), most_(most) {}

    Decoded read() {
        read_chunks();
        const bool grey = head_.colour == 0 || head_.colour == 4;
        Decoded made;
        made.image = blank<uint8_t>(head_.height, head_.width, grey ? 1 : 3);
        made.orientation = orientation_;
        made.alpha = head_.colour >= 4;
        made.deep = head_.depth == 16;
        // x, y of the first pixel and the steps to the next, of each pass
        static const int adam7[7][4] = {{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4},
                                        {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}};
        static const int whole[1][4] = {{0, 0, 1, 1}};
        const int (*passes)[4] = head_.interlaced ? adam7 : whole;
        const int count = head_.interlaced ? 7 : 1;
        size_t size = 0;
        for (int i = 0; i < count; i++) {
            const int wide = (head_.width - passes[i][0] + passes[i][2] - 1) / passes[i][2];
            const int high = (head_.height - passes[i][1] + passes[i][3] - 1) / passes[i][3];
            if (wide > 0 && high > 0) size += (head_.line(wide) + 1) * static_cast<size_t>(high);
        }
        std::vector<uint8_t> raw = Inflater(Bytes(data_.data(), data_.size())).inflate(size);
        uint8_t* at = raw.data();
        for (int i = 0; i < count; i++) at = read_pass(at, passes[i], &made.image);
        return made;
    }

private:
    [[noreturn]] static void fail(const std::string& why) { throw Error(Kind::file, "the image is damaged: " + why); }

    void read_chunks() {
        size_t at = 8;
        bool first = true;
        while (true) {
            const size_t length = source_.big(at, 4);
            const uint8_t* content = source_.part(at + 8, length);
            const bool sound = crc32(source_.part(at + 4, 4 + length), 4 + length) == source_.big(at + 8 + length, 4);
            const bool critical = (source_.part(at + 4, 1)[0] & 32) == 0;
            if (critical && !sound) fail("a checksum is wrong");
            const auto is = [&](const char* name) { return source_.starts_with(name, 4, at + 4); };
            if (first != is("IHDR")) fail("it does not begin with its size");
            first = false;
            if (is("IHDR")) {
                read_header(Bytes(content, length));
            } else if (is("PLTE")) {
                if (length % 3 != 0 || length > 768) fail("its palette");
                palette_.assign(content, content + length);
            } else if (is("IDAT")) {
                data_.insert(data_.end(), content, content + length);
            } else if (is("acTL")) {
                throw Error(Kind::unsupported, "the image is an animation");
            } else if (is("eXIf") && sound) {
                orientation_ = orientation_of(Bytes(content, length));
            } else if (is("IEND")) {
                break;
            } else if (critical) {
                fail("an unknown part");
            }
            at += 12 + length;
        }
        if (head_.colour == 3 && palette_.empty()) fail("it has no palette");
    }

    void read_header(const Bytes& content) {
        if (content.size() != 13) fail("its header");
        const uint32_t width = content.big(0, 4), height = content.big(4, 4);
        require_size(height, width, most_);
        head_.width = static_cast<int>(width);
        head_.height = static_cast<int>(height);
        head_.depth = content.part(8, 1)[0];
        head_.colour = content.part(9, 1)[0];
        head_.interlaced = content.part(12, 1)[0];
        const int d = head_.depth, c = head_.colour;
        const bool grey = c == 0 && (d == 1 || d == 2 || d == 4 || d == 8 || d == 16);
        const bool palette = c == 3 && (d == 1 || d == 2 || d == 4 || d == 8);
        const bool others = (c == 2 || c == 4 || c == 6) && (d == 8 || d == 16);
        if (!(grey || palette || others) || content.big(10, 2) != 0 || head_.interlaced > 1) fail("its header");
    }

    // Unfilters and places the pixels of a pass; returns where the next one begins.
    uint8_t* read_pass(uint8_t* at, const int* pass, Image* image) const {
        const int wide = (head_.width - pass[0] + pass[2] - 1) / pass[2];
        const int high = (head_.height - pass[1] + pass[3] - 1) / pass[3];
        if (wide <= 0 || high <= 0) return at;
        const size_t line = head_.line(wide);
        const size_t stride = std::max<size_t>(1, head_.samples() * static_cast<size_t>(head_.depth) / 8);
        const uint8_t* above = nullptr;
        for (int y = 0; y < high; y++, at += line + 1) {
            unfilter(at[0], at + 1, above, line, stride);
            above = at + 1;
            for (int x = 0; x < wide; x++) place(above, x, pass[1] + y * pass[3], pass[0] + x * pass[2], image);
        }
        return at;
    }

    void place(const uint8_t* line, int from, int y, int x, Image* image) const {
        const size_t samples = head_.samples(), first = static_cast<size_t>(from) * samples;
        const size_t pixel = static_cast<size_t>(y) * static_cast<size_t>(image->width) + static_cast<size_t>(x);
        uint8_t* to = image->bytes().data() + pixel * static_cast<size_t>(image->channels);
        if (image->channels == 1) {
            to[0] = static_cast<uint8_t>(png_sample(head_, line, first));
            return;
        }
        const size_t entry = head_.colour == 3 ? 3 * static_cast<size_t>(png_sample(head_, line, first)) : 0;
        if (head_.colour == 3 && entry + 3 > palette_.size()) fail("a colour is not in its palette");
        for (size_t c = 0; c < 3; c++) {
            to[2 - c] =
                head_.colour == 3 ? palette_[entry + c] : static_cast<uint8_t>(png_sample(head_, line, first + c));
        }
    }

    const Bytes source_;
    const int64_t most_;
    PngHeader head_;
    std::vector<uint8_t> palette_, data_;
    int orientation_ = 1;
};

// Uncompressed BMP of 8 bits with a palette, 24 or 32 bits.
inline Decoded read_bmp(const Bytes& source, int64_t most) {
    const size_t start = source.little(10, 4), head = source.little(14, 4);
    const uint32_t bits = head >= 40 ? source.little(28, 2) : 0, compression = head >= 40 ? source.little(30, 4) : 0;
    if (head < 40 || compression != 0 || (bits != 8 && bits != 24 && bits != 32)) {
        throw Error(Kind::unsupported,
                    "the image is a BMP of a kind that this program does not read: convert it to PNG");
    }
    const int64_t width = static_cast<int32_t>(source.little(18, 4)), down = static_cast<int32_t>(source.little(22, 4));
    const int64_t height = down < 0 ? -down : down;
    require_size(height, width, most);
    const size_t wide = static_cast<size_t>(width), line = (wide * bits / 8 + 3) / 4 * 4;
    size_t colours = 0;
    if (bits == 8) {
        colours = source.little(46, 4) == 0 ? 256 : source.little(46, 4);
        if (colours > 256) throw Error(Kind::file, "the image is damaged: its palette");
        source.part(14 + head, 4 * colours);
    }
    source.part(start, line * static_cast<size_t>(height));
    Decoded made;
    made.image = blank<uint8_t>(static_cast<int>(height), static_cast<int>(width), 3);
    uint8_t* to = made.image.bytes().data();
    for (int64_t y = 0; y < height; y++) {
        const uint8_t* from = source.part(start + line * static_cast<size_t>(down < 0 ? y : height - 1 - y), line);
        for (size_t x = 0; x < wide; x++, to += 3) {
            if (bits == 8 && from[x] >= colours) throw Error(Kind::file, "the image is damaged: its palette");
            std::memcpy(to, bits == 8 ? source.part(14 + head + 4 * size_t(from[x]), 3) : from + x * (bits / 8), 3);
        }
    }
    return made;
}

// Binary PGM and PPM of 8 bits.
inline Decoded read_pnm(const Bytes& source, int64_t most) {
    size_t at = 2;
    const auto number = [&] {
        while (true) {
            const uint8_t c = source.part(at, 1)[0];
            if (c == '#') {
                while (source.part(at, 1)[0] != '\n') at++;
            } else if (c != ' ' && c != '\t' && c != '\r' && c != '\n') {
                break;
            }
            at++;
        }
        int64_t value = 0;
        const size_t start = at;
        for (uint8_t c = source.part(at, 1)[0]; c >= '0' && c <= '9'; c = source.part(++at, 1)[0]) {
            value = value * 10 + (c - '0');
            if (value > kMostSide) throw Error(Kind::file, "the image is too large, or damaged");
        }
        if (at == start) throw Error(Kind::file, "the image is damaged: its header");
        return value;
    };
    const int64_t width = number(), height = number(), greatest = number();
    if (greatest != 255) throw Error(Kind::unsupported, "the image is a PNM of other than 8 bits: convert it to PNG");
    require_size(height, width, most);
    const int channels = source.starts_with("P6", 2) ? 3 : 1;
    Decoded made;
    made.image = blank<uint8_t>(static_cast<int>(height), static_cast<int>(width), channels);
    std::vector<uint8_t>& data = made.image.bytes();
    std::memcpy(data.data(), source.part(at + 1, data.size()), data.size());
    for (size_t i = 0; channels == 3 && i < data.size(); i += 3) std::swap(data[i], data[i + 2]);
    return made;
}

#if defined(SEGC_STB_IMAGE) && !defined(SEGC_OPENCV)
// What a JPEG says before its first scan: EXIF's orientation, and where the scan begins, 0 if there is none.
struct JpegFacts {
    int orientation = 1;
    size_t scan = 0;
};

inline JpegFacts jpeg_facts(const Bytes& source) {
    JpegFacts facts;
    try {
        for (size_t at = 2; facts.scan == 0 && source.big(at, 1) == 0xFF;) {
            const uint32_t marker = source.big(at + 1, 1);
            if (marker == 0xFF || marker == 0x01 ||
                (marker >= 0xD0 && marker <= 0xD8)) {  // filling, or without a length
                at += marker == 0xFF ? 1 : 2;
                continue;
            }
            const uint32_t length = source.big(at + 2, 2);
            if (marker == 0xDA) facts.scan = at;
            if (marker == 0xE1 && length >= 8 && source.starts_with("Exif\0\0", 6, at + 4)) {
                facts.orientation = orientation_of(Bytes(source.part(at + 10, length - 8), length - 8));
            }
            at += 2 + length;
        }
    } catch (const Error&) {  // the decoder will say so
    }
    return facts;
}

inline Decoded read_jpeg(const uint8_t* content, size_t size, int64_t most) {
    int width = 0, height = 0, channels = 0;
    const int length = static_cast<int>(std::min<size_t>(size, std::numeric_limits<int>::max()));
    if (!stbi_info_from_memory(content, length, &width, &height, &channels)) {
        throw Error(Kind::file, "stb_image finds no JPEG in it: " + std::string(stbi_failure_reason()));
    }
    require_size(height, width, most);
    if (channels == 4) throw Error(Kind::unsupported, "the image is a JPEG in CMYK: convert it to RGB");
    static const uint8_t end[] = {0xFF, 0xD9};
    const JpegFacts facts = jpeg_facts(Bytes(content, size));
    const bool whole =
        facts.scan > 0 && std::search(content + facts.scan, content + size, end, end + 2) != content + size;
    if (!whole) throw Error(Kind::file, "the image is cut off: its end marker is missing");
    const int wanted = channels == 1 ? 1 : 3;
    const std::unique_ptr<stbi_uc, void (*)(void*)> pixels(
        stbi_load_from_memory(content, length, &width, &height, &channels, wanted), stbi_image_free);
    if (!pixels) throw Error(Kind::file, "stb_image cannot decode it: " + std::string(stbi_failure_reason()));
    Decoded made;
    made.image = blank<uint8_t>(height, width, wanted);
    std::vector<uint8_t>& data = made.image.bytes();
    std::memcpy(data.data(), pixels.get(), data.size());
    for (size_t i = 0; wanted == 3 && i < data.size(); i += 3) std::swap(data[i], data[i + 2]);
    made.orientation = facts.orientation;
    return made;
}
#endif

inline Decoded decode(const std::vector<uint8_t>& content, int64_t most) {
    const Bytes source(content.data(), content.size());
    if (source.starts_with("\x89PNG\r\n\x1a\n", 8)) return PngReader(source, most).read();
    if (source.starts_with("BM", 2)) return read_bmp(source, most);
    if (source.starts_with("P5", 2) || source.starts_with("P6", 2)) return read_pnm(source, most);
    if (source.starts_with("\xff\xd8\xff", 3)) {
#if defined(SEGC_STB_IMAGE) && !defined(SEGC_OPENCV)
        return read_jpeg(content.data(), content.size(), most);
#else
        throw Error(Kind::unsupported, "the image is a JPEG: build this program with stb_image.h or OpenCV");
#endif
    }
    throw Error(Kind::unsupported, "the image is of a format that this program does not read: convert it to PNG");
}

#if defined(SEGC_OPENCV)
inline Image decode_by_opencv(const std::vector<uint8_t>& content, const Manifest& how, int64_t most) {
    const bool grey = how.loader_color.compare(0, 4, "gray") == 0;
    const bool ignore = how.loader_color.find("ignore") != std::string::npos;
    const int flags = (grey ? cv::IMREAD_GRAYSCALE : cv::IMREAD_COLOR) | (ignore ? cv::IMREAD_IGNORE_ORIENTATION : 0);
    const cv::Mat decoded = cv::imdecode(content, flags);
    if (decoded.empty()) throw Error(Kind::file, "OpenCV finds no image in it: it is damaged or of another format");
    require_size(decoded.rows, decoded.cols, most);
    Image made = blank<uint8_t>(decoded.rows, decoded.cols, decoded.channels());
    const size_t line = static_cast<size_t>(decoded.cols) * static_cast<size_t>(decoded.channels());
    for (int y = 0; y < decoded.rows; y++) {
        std::memcpy(made.bytes().data() + static_cast<size_t>(y) * line, decoded.ptr(y), line);
    }
    return made;
}
#endif

}  // namespace detail

// The pixels of an image file as the model's loader gives them: 8 bits, grey or BGR, turned as its EXIF data says.
inline Image decode_image(const std::vector<uint8_t>& content, const Manifest& how, int64_t most = kMostPixels) {
#if defined(SEGC_OPENCV)
    if (how.decoder == "cv2") return detail::decode_by_opencv(content, how, most);
#endif
    detail::Decoded decoded = detail::decode(content, most);
    if (how.decoder == "pillow" && (decoded.deep || (decoded.alpha && decoded.image.channels == 1))) {
        throw Error(Kind::unsupported,
                    "the model's images are read by Pillow, which reads 16 bits and grey with alpha otherwise");
    }
    const bool grey = how.loader_color.compare(0, 4, "gray") == 0;
    if (grey && decoded.image.channels != 1) {
        throw Error(Kind::unsupported, "the model takes grey images, this one has colours: convert it to grey");
    }
    if (how.loader_color.find("ignore") == std::string::npos)
        decoded.image = detail::oriented(decoded.image, decoded.orientation);
    if (grey || decoded.image.channels == 3) return decoded.image;
    Image made = detail::blank<uint8_t>(decoded.image.height, decoded.image.width, 3);
    for (size_t i = 0; i < made.count(); i++) made.bytes()[i] = decoded.image.bytes()[i / 3];
    return made;
}

inline Image read_image(const std::string& path, const Manifest& how, int64_t most = kMostPixels) {
    try {
        return decode_image(read_file(path, Kind::file, (1 << 24) + 16 * most), how, most);
    } catch (const Error& error) {
        const std::string what = error.what();
        throw Error(error.kind, what.find(path) == std::string::npos ? path + ": " + what : what);
    }
}

// ------------------------------------------------------------------------------------------------------------ resizing

namespace detail {

inline const std::vector<uint8_t>& eight_bits(const Image& image, const char* what) {
    if (const auto* bytes = std::get_if<std::vector<uint8_t>>(&image.data)) return *bytes;
    throw Error(Kind::unsupported,
                std::string(what) + " of numbers that are not of 8 bits, which this program cannot do");
}

// For each output position, two positions of the input and their weights of 11 bits, as OpenCV has them.
// inside: a position beyond an edge takes the edge's pixel with its whole weight.
struct FixedTaps {
    std::vector<int> low, high, first, second;

    FixedTaps(int side, int out, bool inside) {
        const double scale = 1 / (static_cast<double>(out) / side);
        for (int at = 0; at < out; at++) {
            float from = static_cast<float>((at + 0.5) * scale - 0.5);
            int begin = static_cast<int>(std::floor(from));
            from -= static_cast<float>(begin);
            if (inside && (begin < 0 || begin >= side - 1)) {
                begin = begin < 0 ? 0 : side - 1;
                from = 0;
            }
            low.push_back(std::min(std::max(begin, 0), side - 1));
            high.push_back(std::min(std::max(begin + 1, 0), side - 1));
            first.push_back(static_cast<int>(std::nearbyint((1.f - from) * 2048)));
            second.push_back(static_cast<int>(std::nearbyint(from * 2048)));
        }
    }
};

// Half the size: OpenCV takes the mean of four pixels.
inline Image halved(const Image& image) {
    Image made = blank<uint8_t>(image.height / 2, image.width / 2, image.channels);
    const size_t channels = static_cast<size_t>(image.channels), line = static_cast<size_t>(image.width) * channels;
    uint8_t* to = made.bytes().data();
    for (size_t y = 0; y < static_cast<size_t>(made.height); y++) {
        for (size_t x = 0; x < static_cast<size_t>(made.width); x++) {
            const uint8_t* from = image.bytes().data() + 2 * y * line + 2 * x * channels;
            for (size_t c = 0; c < channels; c++, from++) {
                *to++ = static_cast<uint8_t>((from[0] + from[channels] + from[line] + from[line + channels] + 2) >> 2);
            }
        }
    }
    return made;
}

// cv2.resize of 8 bits, INTER_LINEAR.
inline Image resize_bilinear(const Image& image, int height, int width) {
    eight_bits(image, "a bilinear resize");
    if (image.height == height && image.width == width) return image;
    if (image.height == 2 * int64_t(height) && image.width == 2 * int64_t(width)) return halved(image);
    Image made = blank<uint8_t>(height, width, image.channels);
    const FixedTaps across(image.width, width, true), down(image.height, height, false);
    const size_t channels = static_cast<size_t>(image.channels), wide = static_cast<size_t>(width) * channels;
    std::array<std::vector<int>, 2> rows{std::vector<int>(wide), std::vector<int>(wide)};
    std::array<int, 2> held{-1, -1};
    const auto fill = [&](int y, std::vector<int>* row) {
        const uint8_t* line =
            image.bytes().data() + static_cast<size_t>(y) * static_cast<size_t>(image.width) * channels;
        for (size_t x = 0, to = 0; x < static_cast<size_t>(width); x++) {
            const uint8_t *low = line + static_cast<size_t>(across.low[x]) * channels,
                          *high = line + static_cast<size_t>(across.high[x]) * channels;
            for (size_t c = 0; c < channels; c++) (*row)[to++] = low[c] * across.first[x] + high[c] * across.second[x];
        }
    };
    uint8_t* to = made.bytes().data();
    for (size_t y = 0; y < static_cast<size_t>(height); y++, to += wide) {
        if (held[0] != down.low[y] && held[1] == down.low[y]) {  // the lower row of before is the upper one now
            std::swap(rows[0], rows[1]);
            std::swap(held[0], held[1]);
        }
        const int wanted[2] = {down.low[y], down.high[y]};
        for (size_t i = 0; i < 2; i++) {
            if (held[i] != wanted[i]) fill(wanted[i], &rows[i]);
            held[i] = wanted[i];
        }
        const int first = down.first[y], second = down.second[y];
        const int *one = rows[0].data(), *two = rows[1].data();
        for (size_t x = 0; x < wide; x++) {
            to[x] = static_cast<uint8_t>((((first * (one[x] >> 4)) >> 16) + ((second * (two[x] >> 4)) >> 16) + 2) >> 2);
        }
    }
    return made;
}

// An image whose pixel (y, x) is that at (rows[y], columns[x]).
inline Image picked(const Image& image, const std::vector<int>& rows, const std::vector<int>& columns) {
    return std::visit(
        [&](const auto& data) {
            using T = typename std::decay_t<decltype(data)>::value_type;
            Image made = blank<T>(static_cast<int>(rows.size()), static_cast<int>(columns.size()), image.channels);
            T* to = std::get<std::vector<T>>(made.data).data();
            const size_t channels = static_cast<size_t>(image.channels);
            for (int row : rows) {
                for (int column : columns) {
                    const size_t pixel =
                        static_cast<size_t>(row) * static_cast<size_t>(image.width) + static_cast<size_t>(column);
                    to = std::copy_n(data.data() + pixel * channels, channels, to);
                }
            }
            return made;
        },
        image.data);
}

// cv2.resize, INTER_NEAREST.
inline Image resize_nearest(const Image& image, int height, int width) {
    const auto positions = [](int side, int out) {
        const double scale = 1 / (static_cast<double>(out) / side);
        std::vector<int> made;
        for (int at = 0; at < out; at++) made.push_back(std::min(static_cast<int>(std::floor(at * scale)), side - 1));
        return made;
    };
    return picked(image, positions(image.height, height), positions(image.width, width));
}

// Pillow adds the step up, so that its rounding adds up too.
inline Image pillow_nearest(const Image& image, int height, int width) {
    const auto positions = [](int side, int out) {
        const double step = static_cast<double>(side) / out;
        std::vector<int> made;
        double from = step * 0.5;
        for (int at = 0; at < out; at++, from += step) made.push_back(std::min(static_cast<int>(from), side - 1));
        return made;
    };
    return picked(image, positions(image.height, height), positions(image.width, width));
}

inline double pillow_filter(const std::string& kind, double x) {
    const double far = std::fabs(x), a = -0.5, pi = 3.14159265358979323846;
    if (kind == "bilinear") return std::max(1 - far, 0.0);
    if (kind == "bicubic") {
        if (far < 1) return ((a + 2) * far - (a + 3)) * far * far + 1;
        return far < 2 ? (((far - 5) * far + 8) * far - 4) * a : 0;
    }
    if (x < -3 || x >= 3) return 0;
    const auto sinc = [&](double at) { return at == 0 ? 1 : std::sin(at * pi) / (at * pi); };
    return sinc(x) * sinc(x / 3);
}

struct PillowWeights {
    int first = 0;
    std::vector<int64_t> weights;  // of 22 bits
};

inline PillowWeights pillow_weights(int side, int out, int at, const std::string& kind) {
    const double scale = static_cast<double>(side) / out, stretch = std::max(scale, 1.0);
    const double support = (kind == "bilinear" ? 1 : kind == "bicubic" ? 2 : 3) * stretch, centre = (at + 0.5) * scale;
    PillowWeights made;
    made.first = std::max(static_cast<int>(centre - support + 0.5), 0);
    const int end = std::min(static_cast<int>(centre + support + 0.5), side);
    std::vector<double> exact;
    double sum = 0;
    for (int x = made.first; x < end; x++) {
        exact.push_back(pillow_filter(kind, (x - centre + 0.5) * (1 / stretch)));
        sum += exact.back();
    }
    for (double each : exact) {
        const double share = (sum == 0 ? each : each * (1 / sum)) * (1 << 22);
        made.weights.push_back(static_cast<int64_t>(share < 0 ? share - 0.5 : share + 0.5));
    }
    return made;
}

// One direction of Pillow's resampling of 8 bits.
inline Image pillow_convolved(const Image& image, int out, const std::string& kind, bool across) {
    const int side = across ? image.width : image.height;
    Image made =
        across ? blank<uint8_t>(image.height, out, image.channels) : blank<uint8_t>(out, image.width, image.channels);
    const size_t channels = static_cast<size_t>(image.channels), line = static_cast<size_t>(image.width) * channels;
    const size_t made_line = static_cast<size_t>(made.width) * channels, step = across ? channels : line;
    const size_t lines = across ? static_cast<size_t>(image.height) : 1, inner = across ? channels : line;
    for (int at = 0; at < out; at++) {
        const PillowWeights taps = pillow_weights(side, out, at, kind);
        for (size_t y = 0; y < lines; y++) {
            const uint8_t* from = image.bytes().data() + y * line + static_cast<size_t>(taps.first) * step;
            uint8_t* to =
                made.bytes().data() + y * made_line + static_cast<size_t>(at) * (across ? channels : made_line);
            for (size_t c = 0; c < inner; c++) {
                int64_t sum = int64_t(1) << 21;
                for (size_t k = 0; k < taps.weights.size(); k++) sum += from[c + k * step] * taps.weights[k];
                to[c] = static_cast<uint8_t>(std::min<int64_t>(std::max<int64_t>(sum >> 22, 0), 255));
            }
        }
    }
    return made;
}

// Pillow's Image.resize of 8 bits, from release 13 on, which begins with the rows where many more of them go.
inline Image resize_pillow(const Image& image, int height, int width, const std::string& kind) {
    eight_bits(image, "Pillow's resize");
    if (image.height == height && image.width == width) return image;
    if (kind == "nearest") return pillow_nearest(image, height, width);
    const int64_t fewer = int64_t(image.height) - height;
    const bool down_first = fewer > 0 && fewer > 2 * (int64_t(image.width) - width);
    Image made = image;
    for (bool across : {!down_first, down_first}) {
        if ((across ? made.width : made.height) != (across ? width : height)) {
            made = pillow_convolved(made, across ? width : height, kind, across);
        }
    }
    return made;
}

// ------------------------------------------------------------------------------------------------------- preprocessing

// A side in pixels, refused where an image would be too large.
inline int side_of(double side) {
    if (!(side < static_cast<double>(kMostSide)))
        throw Error(Kind::shape, "the preprocessing makes an image that is too large");
    return std::max(1, static_cast<int>(side));
}

inline int up_to_multiple(int side, int divisor) {
    return static_cast<int>((int64_t(side) + divisor - 1) / divisor * divisor);
}

inline Image to_size(const Image& image, std::array<int, 2> size, const Step& step) {
    if (int64_t(size[0]) * size[1] > kMostPixels)
        throw Error(Kind::shape, "the preprocessing makes an image that is too large");
    if (step.pillow) return resize_pillow(image, size[0], size[1], step.interpolation);
    return step.interpolation == "nearest" ? resize_nearest(image, size[0], size[1])
                                           : resize_bilinear(image, size[0], size[1]);
}

// mmcv's size (height, width) for a scale (width, height).
inline std::array<int, 2> resized_size(const Image& image, std::array<int, 2> scale, bool keep_ratio) {
    if (!keep_ratio) return {scale[1], scale[0]};
    const double longer = std::max(scale[0], scale[1]), shorter = std::min(scale[0], scale[1]);
    const double factor =
        std::min(longer / std::max(image.height, image.width), shorter / std::min(image.height, image.width));
    return {side_of(image.height * factor + 0.5), side_of(image.width * factor + 0.5)};
}

inline Image resized(const Image& image, const Step& step) {
    std::array<int, 2> scale = step.size;
    if (scale[0] == 0) {
        // a side of 0 pixels is OpenCV's to refuse
        if (image.width * step.factor[0] + 0.5 < 1 || image.height * step.factor[1] + 0.5 < 1) {
            throw Error(Kind::shape, "the preprocessing makes an image without pixels");
        }
        scale = {side_of(image.width * step.factor[0] + 0.5), side_of(image.height * step.factor[1] + 0.5)};
    }
    return to_size(image, resized_size(image, scale, step.keep_ratio), step);
}

inline Image resized_shortest_edge(const Image& image, const Step& step) {
    double scale = static_cast<double>(step.shortest) / std::min(image.height, image.width);
    double high = step.shortest, wide = scale * image.width;
    if (image.height >= image.width) {
        high = scale * image.height;
        wide = step.shortest;
    }
    if (std::max(high, wide) > step.longest) {
        scale = step.longest / std::max(high, wide);
        high *= scale;
        wide *= scale;
    }
    return to_size(image, resized_size(image, {side_of(wide + 0.5), side_of(high + 0.5)}, true), step);
}

// The size (height, width) that torchvision and transformers give an image.
inline std::array<int, 2> pillow_size(const Image& image, const Step& step) {
    const double height = image.height, width = image.width;
    if (step.size[0] > 0) {
        if (!step.keep_ratio) return {step.size[1], step.size[0]};
        const double by_height = step.size[1] / height, by_width = step.size[0] / width;
        const double factor = std::fabs(1 - by_width) < std::fabs(1 - by_height) ? by_width : by_height;
        const auto made = [&](double side) {
            const double count = std::max(1.0, std::nearbyint(factor * side / step.multiple));
            return side_of(count * step.multiple);
        };
        return {made(height), made(width)};
    }
    double part = step.shortest, exact = step.shortest;
    const double least = std::min(height, width), most = std::max(height, width);
    if (step.longest > 0 && most / least * part > step.longest) {
        exact = step.longest * least / most;
        part = std::nearbyint(exact);
    }
    const double rest = least == part ? most : std::floor(exact * most / least);
    const auto made = [&](double side) { return up_to_multiple(side_of(side), step.multiple); };
    if (height <= width) return {made(part), made(rest)};
    return {made(rest), made(part)};
}

// Which row or column of a side stands at `at`, which may lie beyond its end; -1 for the padding's value.
inline int padded_from(int at, int side, const std::string& mode) {
    if (at < side) return at;
    if (mode == "constant") return -1;
    if (mode == "edge" || side == 1) return side - 1;
    const int twice = mode == "symmetric" ? 1 : 0, period = 2 * side - 2 + 2 * twice, inside = at % period;
    return inside < side ? inside : period - inside - twice;
}

template <typename T>
T as_pixel(double value) {
    if constexpr (std::is_same_v<T, uint8_t>) {
        return static_cast<uint8_t>(std::min(std::max(std::nearbyint(value), 0.0), 255.0));
    } else {
        return static_cast<T>(value);
    }
}

inline Image padded(const Image& image, const Step& step) {
    int high = image.height, wide = image.width;
    if (step.square) high = wide = std::max(high, wide);
    if (step.divisor > 0) {
        high = up_to_multiple(high, step.divisor);
        wide = up_to_multiple(wide, step.divisor);
    } else if (step.size[0] > 0) {
        wide = step.size[0];
        high = step.size[1];
    }
    high = std::max(high, image.height);
    wide = std::max(wide, image.width);
    return std::visit(
        [&](const auto& data) {
            using T = typename std::decay_t<decltype(data)>::value_type;
            Image made = blank<T>(high, wide, image.channels);
            T* to = std::get<std::vector<T>>(made.data).data();
            const size_t channels = static_cast<size_t>(image.channels), given = step.values.size();
            for (int y = 0; y < high; y++) {
                const int row = padded_from(y, image.height, step.mode);
                for (int x = 0; x < wide; x++) {
                    const int column = padded_from(x, image.width, step.mode);
                    const size_t pixel =
                        row < 0 || column < 0
                            ? 0
                            : static_cast<size_t>(row) * static_cast<size_t>(image.width) + static_cast<size_t>(column);
                    for (size_t c = 0; c < channels; c++) {
                        const double value = step.values[given == 1 ? 0 : std::min(c, given - 1)];
                        const bool outside = row < 0 || column < 0;
                        *to++ = outside ? as_pixel<T>(given == 1 || c < given ? value : 0) : data[pixel * channels + c];
                    }
                }
            }
            return made;
        },
        image.data);
}

// Python's round(margin / 2), or half the margin rounded down.
inline Image center_cropped(const Image& image, const Step& step) {
    const int wide = std::min(step.size[0], image.width), high = std::min(step.size[1], image.height);
    const auto start = [&](int margin) {
        return step.floor ? margin / 2 : static_cast<int>(std::nearbyint(margin / 2.0));
    };
    std::vector<int> rows, columns;
    for (int y = 0; y < high; y++) rows.push_back(start(image.height - high) + y);
    for (int x = 0; x < wide; x++) columns.push_back(start(image.width - wide) + x);
    return picked(image, rows, columns);
}

// A new image of `channels` float32 or float64, of function(pixel, channel) with a pixel as doubles.
template <typename T, typename Function>
Image mapped(const Image& image, int channels, Function function) {
    Image made = blank<T>(image.height, image.width, channels);
    T* to = std::get<std::vector<T>>(made.data).data();
    const size_t given = static_cast<size_t>(image.channels);
    std::visit(
        [&](const auto& data) {
            std::vector<double> pixel(given);
            for (size_t at = 0; at < data.size(); at += given) {
                for (size_t c = 0; c < given; c++) pixel[c] = static_cast<double>(data[at + c]);
                for (int c = 0; c < channels; c++) *to++ = function(pixel, static_cast<size_t>(c));
            }
        },
        image.data);
    return made;
}

inline Image normalized_step(const Image& image, const Step& step) {
    const size_t channels = static_cast<size_t>(image.channels);
    if ((step.mean.size() != channels && step.mean.size() != 1) || (step.swap && channels != 3)) {
        throw Error(Kind::shape,
                    "the step 'normalize' cannot take an image of " + std::to_string(channels) + " channels");
    }
    return mapped<float>(image, image.channels, [&](const std::vector<double>& pixel, size_t c) {
        const size_t own = step.mean.size() == 1 ? 0 : c;
        const float value = static_cast<float>(pixel[step.swap ? 2 - c : c]);
        const float moved = static_cast<float>(value - static_cast<double>(static_cast<float>(step.mean[own])));
        return static_cast<float>(moved * (1 / static_cast<double>(static_cast<float>(step.std[own]))));
    });
}

inline Image grayed(const Image& image, const Step& step) {
    if (static_cast<size_t>(image.channels) != step.weights.size()) {
        throw Error(Kind::shape, "the step 'gray' mixes " + std::to_string(step.weights.size()) +
                                     " channels, the image has " + std::to_string(image.channels));
    }
    return mapped<double>(image, step.channels, [&](const std::vector<double>& pixel, size_t) {
        double sum = 0;
        for (size_t c = 0; c < pixel.size(); c++) sum += pixel[c] * step.weights[c];
        return sum;
    });
}

inline Image gamma_adjusted(const Image& image, const Step& step) {
    eight_bits(image, "a gamma");
    Image made = image;
    std::array<uint8_t, 256> table;
    for (size_t i = 0; i < 256; i++) {
        table[i] = static_cast<uint8_t>(std::pow(static_cast<double>(i) / 255.0, 1.0 / step.gamma) * 255);
    }
    for (uint8_t& value : made.bytes()) value = table[value];
    return made;
}

// In float32 for an image of float32, otherwise in float64, as NumPy does.
inline Image reranged(const Image& image, const Step& step) {
    return std::visit(
        [&](const auto& data) {
            using Given = typename std::decay_t<decltype(data)>::value_type;
            using T = std::conditional_t<std::is_same_v<Given, float>, float, double>;
            const auto [least, most] = std::minmax_element(data.begin(), data.end());
            const T low = *least, range = static_cast<T>(*most) - low;
            if (!(*least < *most))
                throw Error(Kind::shape, "the image has one value only, the model stretches its values to a range");
            Image made = blank<T>(image.height, image.width, image.channels);
            std::vector<T>& to = std::get<std::vector<T>>(made.data);
            const T width = static_cast<T>(step.high - step.low), start = static_cast<T>(step.low);
            for (size_t i = 0; i < data.size(); i++) to[i] = (static_cast<T>(data[i]) - low) / range * width + start;
            return made;
        },
        image.data);
}

inline Image transformed(Image image, const std::vector<Step>& steps) {
    for (const Step& step : steps) {
        if (step.name == "resize") image = resized(image, step);
        if (step.name == "resize to multiple") {
            image = to_size(
                image, {up_to_multiple(image.height, step.divisor), up_to_multiple(image.width, step.divisor)}, step);
        }
        if (step.name == "resize shortest edge") image = resized_shortest_edge(image, step);
        if (step.name == "pillow resize") image = to_size(image, pillow_size(image, step), step);
        if (step.name == "pad") image = padded(image, step);
        if (step.name == "center crop") image = center_cropped(image, step);
        if (step.name == "normalize") image = normalized_step(image, step);
        if (step.name == "gray") image = grayed(image, step);
        if (step.name == "gamma") image = gamma_adjusted(image, step);
        if (step.name == "rerange") image = reranged(image, step);
    }
    return image;
}

// Planes of float32, C x height x width.
struct Planes {
    int channels = 0, height = 0, width = 0;
    std::vector<float> data;

    float* row(int c, int y) {
        return data.data() + (static_cast<size_t>(c) * static_cast<size_t>(height) + static_cast<size_t>(y)) *
                                 static_cast<size_t>(width);
    }
    const float* row(int c, int y) const { return const_cast<Planes*>(this)->row(c, y); }
};

inline Planes make_planes(int channels, int height, int width, float value = 0) {
    if (int64_t(height) * width > kMostPixels) throw Error(Kind::shape, "the network's input is too large");
    const size_t count = static_cast<size_t>(channels) * static_cast<size_t>(height) * static_cast<size_t>(width);
    return Planes{channels, height, width, std::vector<float>(count, value)};
}

// `from`, padded to the right and bottom.
inline Planes grown(const Planes& from, int height, int width, float value) {
    if (height == from.height && width == from.width) return from;
    Planes made = make_planes(from.channels, height, width, value);
    for (int c = 0; c < from.channels; c++)
        for (int y = 0; y < from.height; y++) std::copy_n(from.row(c, y), from.width, made.row(c, y));
    return made;
}

}  // namespace detail

// The network's input, and how many of its rows and columns are not padding.
struct Prepared {
    detail::Planes x;
    int height = 0, width = 0;
};

// The image's steps, (x - mean) / std or the table, and padding to the right and bottom.
inline Prepared preprocess(const Image& given, const Manifest& how) {
    const Image image = detail::transformed(given, how.steps);
    const int channels = static_cast<int>(how.mean.size());
    if (image.channels != 1 && image.channels != channels) {
        throw Error(Kind::shape, "the image has " + std::to_string(image.channels) + " channels, the model takes " +
                                     std::to_string(channels));
    }
    int high = image.height, wide = image.width;
    if (how.pad_size[0] > 0) {
        high = std::max(high, how.pad_size[0]);
        wide = std::max(wide, how.pad_size[1]);
    } else if (how.pad_divisor > 0) {
        high = detail::up_to_multiple(high, how.pad_divisor);
        wide = detail::up_to_multiple(wide, how.pad_divisor);
    }
    Prepared made;
    made.x = detail::make_planes(channels, high, wide, how.pad_value);
    made.height = how.pad_kept ? high : image.height;
    made.width = how.pad_kept ? wide : image.width;
    if (!how.table.empty()) detail::eight_bits(image, "a table");
    std::visit(
        [&](const auto& data) {
            const size_t step = static_cast<size_t>(image.channels);
            for (int c = 0; c < channels; c++) {
                const bool swap = how.rgb && image.channels == 3;
                const size_t own = static_cast<size_t>(c), from = image.channels == 1 ? 0 : swap ? 2 - own : own;
                const float mean = static_cast<float>(how.mean[own]), std = static_cast<float>(how.std[own]);
                const auto* at = data.data() + from;
                for (int y = 0; y < image.height; y++) {
                    float* row = made.x.row(c, y);
                    for (int x = 0; x < image.width; x++, at += step) {
                        row[x] = how.table.empty() ? (static_cast<float>(*at) - mean) / std
                                                   : how.table[own][static_cast<uint8_t>(*at)];
                    }
                }
            }
        },
        image.data);
    return made;
}

// ------------------------------------------------------------------------------------------- masks from small logits
//
// A cell is the set of output pixels that are interpolated from the same input pixels, its corners. Where one class
// wins at all corners of a cell, it wins in the whole cell. Elsewhere only classes can win whose largest corner reaches
// the greatest smallest corner of any class, and only those are interpolated; where too many can, all are, with the
// columns in an order that vector instructions can read. docs/masks.md says why that is exact.

// Classes of pixels; `wide` holds them where there are more than 256 classes.
struct Mask {
    int height = 0, width = 0;
    std::vector<uint8_t> narrow;
    std::vector<uint16_t> wide;

    bool is_wide() const { return !wide.empty(); }
    int at(int y, int x) const {
        const size_t pixel = static_cast<size_t>(y) * static_cast<size_t>(width) + static_cast<size_t>(x);
        return is_wide() ? wide[pixel] : narrow[pixel];
    }
};

namespace detail {

// Logits (C, height, width) that are asked for rows in ascending order, each block once.
class Rows {
public:
    Rows(int channels, int height, int width) : channels(channels), height(height), width(width) {}
    virtual ~Rows() = default;
    // Rows low to high, end excluded.
    virtual Planes rows(int low, int high) = 0;
    // All of them, where they are in memory.
    virtual const Planes* whole() const { return nullptr; }

    const int channels, height, width;
};

class PlaneRows : public Rows {
public:
    explicit PlaneRows(const Planes& planes) : Rows(planes.channels, planes.height, planes.width), planes_(planes) {}
    Planes rows(int low, int high) override {
        Planes made = make_planes(channels, high - low, width);
        for (int c = 0; c < channels; c++)
            for (int y = low; y < high; y++) std::copy_n(planes_.row(c, y), width, made.row(c, y - low));
        return made;
    }
    const Planes* whole() const override { return &planes_; }

private:
    const Planes& planes_;
};

// For each output position two positions of the input and the weight of the second, as torch has them in float32.
struct TorchTaps {
    std::vector<int> low, high;
    std::vector<float> weight;

    TorchTaps(int side, int out, bool align_corners) {
        const float step = static_cast<float>(side - 1) / static_cast<float>(std::max(out - 1, 1));
        const double scale = static_cast<double>(static_cast<float>(side) / static_cast<float>(out));
        for (int at = 0; at < out; at++) {
            float from = static_cast<float>(at);
            if (side != out && align_corners) from = step * static_cast<float>(at);
            if (side != out && !align_corners) {
                from =
                    static_cast<float>(std::max(scale * static_cast<double>(static_cast<float>(at) + 0.5f) - 0.5, 0.0));
            }
            low.push_back(std::min(static_cast<int>(from), side - 1));
            high.push_back(side == out ? at : std::min(low.back() + 1, side - 1));
            const float share = std::min(std::max(from - static_cast<float>(low.back()), 0.f), 1.f);
            weight.push_back(side == out ? 0.f : share);
        }
    }
};

// The first rows and columns.
inline Planes cropped(const Planes& x, int height, int width) {
    if (x.height == height && x.width == width) return x;
    Planes made = make_planes(x.channels, height, width);
    for (int c = 0; c < x.channels; c++)
        for (int y = 0; y < height; y++) std::copy_n(x.row(c, y), width, made.row(c, y));
    return made;
}

inline Planes lerp_columns(const Planes& x, const TorchTaps& taps, int width) {
    Planes made = make_planes(x.channels, x.height, width);
    for (int c = 0; c < x.channels; c++) {
        for (int y = 0; y < x.height; y++) {
            const float* from = x.row(c, y);
            float* to = made.row(c, y);
            for (size_t i = 0; i < static_cast<size_t>(width); i++) {
                to[i] = from[taps.low[i]] * (1 - taps.weight[i]) + from[taps.high[i]] * taps.weight[i];
            }
        }
    }
    return made;
}

// Output rows begin to end of `x`, whose first row is row `first` of the input.
inline Planes lerp_rows(const Planes& x, const TorchTaps& taps, int first, int begin, int end) {
    Planes made = make_planes(x.channels, end - begin, x.width);
    for (int c = 0; c < x.channels; c++) {
        for (int y = begin; y < end; y++) {
            const size_t at = static_cast<size_t>(y);
            const float *one = x.row(c, taps.low[at] - first), *two = x.row(c, taps.high[at] - first);
            const float share = taps.weight[at];
            float* to = made.row(c, y - begin);
            for (int i = 0; i < x.width; i++) to[i] = one[i] * (1 - share) + two[i] * share;
        }
    }
    return made;
}

// Logits resized to `high` x `wide` and cropped to `height` x `width`.
class ResizedRows : public Rows {
public:
    ResizedRows(Rows* source, int high, int wide, int height, int width, bool align_corners)
        : Rows(source->channels, height, width),
          source_(source),
          keeps_rows_(source->height == high),
          keeps_columns_(source->width == wide),
          down_(source->height, high, align_corners),
          across_(source->width, wide, align_corners) {}

    Planes rows(int low, int high) override {
        const int first = down_.low[static_cast<size_t>(low)], last = down_.high[static_cast<size_t>(high - 1)] + 1;
        Planes block = source_->rows(first, last);
        block = keeps_columns_ ? cropped(block, block.height, width) : lerp_columns(block, across_, width);
        return keeps_rows_ ? block : lerp_rows(block, down_, first, low, high);
    }

private:
    Rows* source_;
    const bool keeps_rows_, keeps_columns_;
    const TorchTaps down_, across_;
};

inline Planes resized_planes(const Planes& x, int height, int width, bool align_corners) {
    if (x.height == height && x.width == width) return x;
    PlaneRows rows(x);
    return ResizedRows(&rows, height, width, height, width, align_corners).rows(0, height);
}

constexpr int kMostTaps = 4;
constexpr int kGroup = 16;           // output rows processed together
constexpr int kTile = 512;           // output columns processed together: their rows fit the first-level cache
constexpr int kLines = 1 << 18;      // elements of interpolated rows in use: they fit the second-level cache
constexpr int kTogether = 4;         // classes compared in one loop
constexpr int kDense = 30;           // all classes are interpolated where more than one in so many can win
constexpr int kBlock = 64;           // output rows processed together where all classes are interpolated
constexpr int kSample = 8;           // mixed cells of a row that are examined first
constexpr int kStripsPerThread = 4;  // so that threads finish at about the same time
constexpr int64_t kWorkPerThread = int64_t(1) << 18;
constexpr int64_t kBandBytes = int64_t(8) << 20;
constexpr int64_t kBlockBytes = int64_t(4) << 20;

// One axis of a resize: output i is the sum over k of weight[k][i] * x[min(low[i] + k, side - 1)].
struct Axis {
    int side = 0;
    std::vector<int> low;
    std::vector<std::vector<float>> weight;

    int out() const { return static_cast<int>(low.size()); }
};

inline Axis axis_of(int side, int out, bool align_corners) {
    const TorchTaps taps(side, out, align_corners);
    Axis axis{side, taps.low, {taps.weight, taps.weight}};
    for (float& weight : axis.weight[0]) weight = 1 - weight;
    return axis;
}

// Both resizes as one: the product of their matrices, exact except for the rounding of its weights.
inline Axis composed(const Axis& first, const Axis& then) {
    const size_t out = then.low.size();
    Axis made{first.side, {}, {}};
    std::vector<std::array<int, 4>> offsets(out);
    std::vector<std::array<double, 4>> products(out);
    int taps = 0;
    for (size_t i = 0; i < out; i++) {
        made.low.push_back(first.low[static_cast<size_t>(then.low[i])]);
        for (size_t k = 0; k < 2; k++) {
            const size_t middle = static_cast<size_t>(std::min(then.low[i] + static_cast<int>(k), then.side - 1));
            for (size_t j = 0; j < 2; j++) {
                const int source = std::min(first.low[middle] + static_cast<int>(j), first.side - 1);
                offsets[i][2 * k + j] = source - made.low[i];
                products[i][2 * k + j] =
                    static_cast<double>(then.weight[k][i]) * static_cast<double>(first.weight[j][middle]);
                taps = std::max(taps, source - made.low[i] + 1);
            }
        }
    }
    made.weight.assign(static_cast<size_t>(taps), std::vector<float>(out));
    std::vector<double> sums(static_cast<size_t>(taps));
    for (size_t i = 0; i < out; i++) {
        std::fill(sums.begin(), sums.end(), 0.0);
        for (size_t k = 0; k < 4; k++) sums[static_cast<size_t>(offsets[i][k])] += products[i][k];
        for (size_t k = 0; k < sums.size(); k++) made.weight[k][i] = static_cast<float>(sums[k]);
    }
    return made;
}

// The columns of a mask: their taps, their cells, and the order in which all classes are interpolated.
struct Columns {
    std::vector<int> low;
    std::vector<std::vector<float>> weight;
    std::vector<int> cell_first, cell_out;  // the first input column of each cell; its first output column, and the end
    struct Run {
        int first, slot, count;  // the first input column, the first slot, the number of slots
    };
    struct Tile {
        size_t run;
        int column;  // the first run and the first output column, and at last the ends
    };
    std::vector<Run> runs;
    std::vector<Tile> tiles;
    std::vector<int> slots;                        // of each output column, relative to the first slot of its tile
    std::vector<std::vector<float>> slot_weights;  // of each slot
    int most = 0;                                  // slots of a tile

    Columns(const Axis& axis, int classes) : low(axis.low), weight(axis.weight) {
        const int out = axis.out();
        for (int i = 0; i < out; i++) {
            if (i == 0 || at(low, i) != at(low, i - 1)) {
                cell_first.push_back(at(low, i));
                cell_out.push_back(i);
            }
        }
        cell_out.push_back(out);
        order(classes);
    }

private:
    static int at(const std::vector<int>& values, int index) { return values[static_cast<size_t>(index)]; }

    // The first pixel of every cell, then the second of every cell, and so on, tile by tile.
    void order(int classes) {
        const int start = low.front(), span = low.back() - start + 1, out = static_cast<int>(low.size());
        std::vector<int> begins;
        for (int s = 0; s <= span; s++) {
            begins.push_back(static_cast<int>(std::lower_bound(low.begin(), low.end(), start + s) - low.begin()));
        }
        const int taps = static_cast<int>(weight.size());
        const int wide = std::min(kTile, std::max(kTile / 4, kLines / (classes * taps)));
        const int step = std::max(1, static_cast<int>(int64_t(wide) * span / out));
        slots.assign(low.size(), 0);
        slot_weights.resize(weight.size());
        tiles.push_back({0, 0});
        for (int from = 0; from < span; from += step) {
            const int end = std::min(from + step, span), base = static_cast<int>(slot_weights[0].size());
            int widest = 0;
            for (int j = from; j < end; j++) widest = std::max(widest, at(begins, j + 1) - at(begins, j));
            for (int k = 0; k < widest; k++) add_run(begins, from, end, k, start, base);
            tiles.push_back({runs.size(), at(begins, end)});
            most = std::max(most, static_cast<int>(slot_weights[0].size()) - base);
        }
    }

    void add_run(const std::vector<int>& begins, int from, int end, int k, int start, int base) {
        int left = end, right = from;
        for (int j = from; j < end; j++) {
            if (at(begins, j) + k < at(begins, j + 1)) {
                left = std::min(left, j);
                right = j + 1;
            }
        }
        const int slot = static_cast<int>(slot_weights[0].size());
        for (int j = left; j < right; j++) {
            const int column = at(begins, j) + k;
            const bool there = column < at(begins, j + 1);
            if (there) slots[static_cast<size_t>(column)] = slot - base + j - left;
            for (size_t m = 0; m < weight.size(); m++)
                slot_weights[m].push_back(there ? weight[m][static_cast<size_t>(column)] : 0.f);
        }
        runs.push_back({start + left, slot, right - left});
    }
};

// Fills output rows of a mask. x: the logits from input row `first` on.
template <typename Class, int Taps>
class RowFiller {
public:
    RowFiller(const Planes& x, int first, const Axis& rows, const Columns& columns, Class* out)
        : x_(x),
          first_(first),
          rows_(rows),
          columns_(columns),
          out_(out),
          classes_(x.channels),
          width_(static_cast<size_t>(x.width)),
          wide_(columns.low.size()) {}

    // The classes of the largest values in output rows begin to end; whether all logits that were read are finite.
    bool argmax(int begin, int end) {
        prepare();
        bool clean = true;
        int waiting = begin;  // output rows from here on need all classes, and are processed together
        for (int r = begin; r < end;) {
            const int y = row_low(r), stop = end_of_cell(r, end);
            const bool usable = find_winners(y);
            clean = clean && usable;
            size_t count = 0;
            bool dense = false;
            if (usable) {
                count = mixed_cells();
                dense = count > 0 && find_candidates(y, count);
            }
            if (!dense || stop - waiting > kBlock) {
                if (waiting < r) this->dense(true, waiting, r);
                waiting = dense ? r : stop;
            }
            if (!usable) {
                this->dense(false, r, stop);
            } else if (!dense) {
                for (int o = r; o < stop; o++)
                    std::copy(line_.begin(), line_.end(), out_ + static_cast<size_t>(o) * wide_);
                for (size_t n = 0; n < count; n++) fill_cell(y, n, r, stop);
            }
            r = stop;
        }
        if (waiting < end) dense(true, waiting, end);
        return clean;
    }

    // 1 where the only class exceeds `cutoff`, in output rows begin to end.
    void threshold(float cutoff, int begin, int end) {
        std::array<std::vector<float>, Taps> flat;
        for (auto& line : flat) line.resize(wide_);
        int held = -1;
        for (int r = begin; r < end; r++) {
            const int y = row_low(r);
            for (int k = 0; k < Taps && y != held; k++)
                interpolate_line(std::min(y + k, x_.height - 1), flat[static_cast<size_t>(k)].data());
            held = y;
            for (size_t i = 0; i < wide_; i++) {
                float value = flat[0][i] * down(0, r);
                for (int k = 1; k < Taps; k++) value += flat[static_cast<size_t>(k)][i] * down(k, r);
                out_[static_cast<size_t>(r) * wide_ + i] = value > cutoff;
            }
        }
    }

private:
    int row_low(int r) const { return rows_.low[static_cast<size_t>(r)] - first_; }
    float down(int k, int r) const { return rows_.weight[static_cast<size_t>(k)][static_cast<size_t>(r)]; }

    int end_of_cell(int r, int end) const {
        int stop = r + 1;
        while (stop < end && stop < r + kGroup && row_low(stop) == row_low(r)) stop++;
        return stop;
    }

    void prepare() {
        const size_t cells = columns_.cell_first.size(), classes = static_cast<size_t>(classes_);
        best_.resize(width_);
        not_finite_.resize(width_);
        for (auto& line : kept_) line.resize(width_);
        held_.fill(-1);
        line_.assign(wide_, 0);
        mixed_.resize(cells);
        length_.resize(cells);
        floor_.resize(cells);
        able_.resize(cells * (classes + 1));
    }

    // The winners of the rows of corners of input row y, in win_; whether all logits there are finite.
    bool find_winners(int y) {
        bool usable = true;
        for (int k = 0; k < Taps; k++) {
            const int row = std::min(y + k, x_.height - 1);
            const size_t slot = static_cast<size_t>(row % Taps);
            if (held_[slot] != row) {
                finite_[slot] = winners(row, kept_[slot].data());
                held_[slot] = row;
            }
            usable = usable && finite_[slot];
            win_[static_cast<size_t>(k)] = kept_[slot].data();
        }
        return usable;
    }

    bool winners(int row, int32_t* win) {
        const float* logits = x_.row(0, row);
        float *best = best_.data(), *unfit = not_finite_.data();
        for (size_t i = 0; i < width_; i++) {
            best[i] = logits[i];
            unfit[i] = logits[i] * 0.f;
            win[i] = 0;
        }
        for (int c = 1; c < classes_; c++) {
            logits = x_.row(c, row);
            for (size_t i = 0; i < width_; i++) {
                const float v = logits[i];
                const bool above = v > best[i];
                unfit[i] += v * 0.f;
                best[i] = above ? v : best[i];
                win[i] = above ? c : win[i];
            }
        }
        bool finite = true;
        for (size_t i = 0; i < width_; i++) finite &= unfit[i] == 0.f;  // NaN where one logit was not finite
        return finite;
    }

    // Writes the winner of every cell whose corners agree into line_, and lists the others in mixed_.
    size_t mixed_cells() {
        size_t count = 0;
        const int last = x_.width - 1;
        for (size_t j = 0; j < columns_.cell_first.size(); j++) {
            const int column = columns_.cell_first[j];
            const int32_t first = win_[0][column];
            bool same = true;
            for (int m = 0; m < Taps; m++)
                for (int k = 0; k < Taps; k++)
                    same &= win_[static_cast<size_t>(k)][std::min(column + m, last)] == first;
            if (same) {
                for (int i = columns_.cell_out[j]; i < columns_.cell_out[j + 1]; i++)
                    line_[static_cast<size_t>(i)] = static_cast<Class>(first);
            } else {
                mixed_[count++] = static_cast<int32_t>(j);
            }
        }
        return count;
    }

    // Lists the classes that can win in the mixed cells; true where so many can that all are to be interpolated.
    bool find_candidates(int y, size_t count) {
        const int64_t limit = int64_t(classes_) * static_cast<int64_t>(columns_.cell_first.size());
        if (count > kSample) {  // on noise most classes can win in every cell, which a few cells show
            const int64_t total = candidates(y, kSample, count / kSample);
            if (total * static_cast<int64_t>(count) * kDense > limit * kSample) return true;
        }
        return candidates(y, count, 1) * kDense > limit;
    }

    int64_t candidates(int y, size_t count, size_t step) {
        const int last = x_.width - 1;
        const size_t stride = static_cast<size_t>(classes_) + 1;
        for (size_t n = 0; n < count; n++) {
            const int column = columns_.cell_first[static_cast<size_t>(mixed_[n * step])];
            float floor = -std::numeric_limits<float>::infinity();
            for (int m = 0; m < Taps; m++) {
                for (int k = 0; k < Taps; k++) {
                    const int32_t winner = win_[static_cast<size_t>(k)][std::min(column + m, last)];
                    floor = std::max(floor, corner<false>(winner, y, column));
                }
            }
            floor_[n] = floor;
            length_[n] = 0;
        }
        for (int c = 0; c < classes_; c++) {
            for (size_t n = 0; n < count; n++) {
                const float most = corner<true>(c, y, columns_.cell_first[static_cast<size_t>(mixed_[n * step])]);
                able_[n * stride + static_cast<size_t>(length_[n])] = c;  // overwritten unless it is counted
                length_[n] += most >= floor_[n];
            }
        }
        int64_t total = 0;
        for (size_t n = 0; n < count; n++) total += length_[n];
        return total;
    }

    // The largest or the smallest corner of class c in a cell.
    template <bool Largest>
    float corner(int c, int y, int column) const {
        const int last_row = x_.height - 1, last_column = x_.width - 1;
        float found = x_.row(c, y)[column];
        for (int p = 0; p < Taps; p++) {
            const float* line = x_.row(c, std::min(y + p, last_row));
            for (int q = 0; q < Taps; q++) {
                const float v = line[std::min(column + q, last_column)];
                found = Largest ? (v > found ? v : found) : (v < found ? v : found);
            }
        }
        return found;
    }

    // Output rows begin to end of mixed cell n, choosing among its candidates.
    void fill_cell(int y, size_t n, int begin, int end) {
        const size_t cell = static_cast<size_t>(mixed_[n]), rows = static_cast<size_t>(end - begin);
        const int32_t* able = able_.data() + n * (static_cast<size_t>(classes_) + 1);
        const int column = columns_.cell_first[cell], last_row = x_.height - 1, last_column = x_.width - 1;
        std::array<float, kGroup> best;
        std::array<int32_t, kGroup> win;
        for (int i = columns_.cell_out[cell]; i < columns_.cell_out[cell + 1]; i++) {
            best.fill(-std::numeric_limits<float>::infinity());
            win.fill(able[0]);
            for (int32_t index = 0; index < length_[n]; index++) {
                const int32_t c = able[index];
                std::array<float, Taps> flat;
                for (int k = 0; k < Taps; k++) {
                    const float* line = x_.row(c, std::min(y + k, last_row));
                    float total = line[column] * columns_.weight[0][static_cast<size_t>(i)];
                    for (int m = 1; m < Taps; m++)
                        total += line[std::min(column + m, last_column)] *
                                 columns_.weight[static_cast<size_t>(m)][static_cast<size_t>(i)];
                    flat[static_cast<size_t>(k)] = total;
                }
                for (size_t r = 0; r < rows; r++) {
                    float value = flat[0] * down(0, begin + static_cast<int>(r));
                    for (int k = 1; k < Taps; k++)
                        value += flat[static_cast<size_t>(k)] * down(k, begin + static_cast<int>(r));
                    const bool above = value > best[r];
                    best[r] = above ? value : best[r];
                    win[r] = above ? c : win[r];
                }
            }
            for (size_t r = 0; r < rows; r++)
                out_[(static_cast<size_t>(begin) + r) * wide_ + static_cast<size_t>(i)] = static_cast<Class>(win[r]);
        }
    }

    // Output rows begin to end with every class interpolated. finite: whether all logits that are read are.
    void dense(bool finite, int begin, int end) {
        const size_t most = static_cast<size_t>(columns_.most);
        padded_.resize(width_ + Taps - 1);
        lines_.resize(static_cast<size_t>(classes_) * Taps * most);
        dense_best_.resize(kGroup * most);
        dense_win_.resize(kGroup * most);
        for (size_t t = 0; t + 1 < columns_.tiles.size(); t++) {
            const Columns::Run *first = &columns_.runs[columns_.tiles[t].run],
                               *last = &columns_.runs[columns_.tiles[t + 1].run - 1];
            const size_t count = static_cast<size_t>(last->slot + last->count - first->slot);
            std::array<int, Taps> held;
            held.fill(-1);
            for (int r = begin; r < end;) {
                const int y = row_low(r), stop = end_of_cell(r, end);
                std::array<size_t, Taps> line_of;  // for each tap, which interpolated row is its input row
                for (int k = 0; k < Taps; k++) {
                    const int row = std::min(y + k, x_.height - 1);
                    const size_t slot = static_cast<size_t>(row % Taps);
                    line_of[static_cast<size_t>(k)] = slot;
                    if (held[slot] == row) continue;
                    held[slot] = row;
                    for (int c = 0; c < classes_; c++) interpolate_row(c, row, first, last, line(c, slot));
                }
                winners_of_rows(line_of, finite, r, stop, count);
                for (int o = r; o < stop; o++) {
                    Class* to = out_ + static_cast<size_t>(o) * wide_;
                    const int32_t* win = dense_win_.data() + static_cast<size_t>(o - r) * most;
                    for (size_t i = static_cast<size_t>(columns_.tiles[t].column);
                         i < static_cast<size_t>(columns_.tiles[t + 1].column); i++) {
                        to[i] = static_cast<Class>(win[columns_.slots[i]]);
                    }
                }
                r = stop;
            }
        }
    }

    float* line(int c, size_t slot) {
        return lines_.data() + (static_cast<size_t>(c) * Taps + slot) * static_cast<size_t>(columns_.most);
    }

    // Input row `row` of class c at all slots of the runs first to last.
    void interpolate_row(int c, int row, const Columns::Run* first, const Columns::Run* last, float* out) {
        const float* from = x_.row(c, row);
        std::copy_n(from, width_, padded_.data());
        for (size_t i = width_; i < padded_.size(); i++) padded_[i] = from[width_ - 1];
        for (const Columns::Run* run = first; run <= last; run++) {
            const float* at = padded_.data() + run->first;
            float* to = out + (run->slot - first->slot);
            std::array<const float*, Taps> weights;
            for (size_t k = 0; k < Taps; k++) weights[k] = columns_.slot_weights[k].data() + run->slot;
            for (int i = 0; i < run->count; i++) {
                float total = at[i] * weights[0][i] + at[i + 1] * weights[1][i];
                for (int k = 2; k < Taps; k++) total += at[i + k] * weights[static_cast<size_t>(k)][i];
                to[i] = total;
            }
        }
    }

    void winners_of_rows(const std::array<size_t, Taps>& line_of, bool finite, int begin, int end, size_t count) {
        std::fill(dense_best_.begin(), dense_best_.end(), -std::numeric_limits<float>::infinity());
        std::fill(dense_win_.begin(), dense_win_.end(), 0);
        const bool together = finite && Taps == 2 && classes_ >= kTogether;
        for (int next = 0; next < classes_; next += together ? kTogether : 1) {
            // a class that is compared twice does not exceed itself
            const int c = together ? std::min(next, classes_ - kTogether) : next;
            for (int r = begin; r < end; r++) {
                const size_t at = static_cast<size_t>(r - begin) * static_cast<size_t>(columns_.most);
                float* best = dense_best_.data() + at;
                int32_t* win = dense_win_.data() + at;
                if (together) {
                    update_by_four(c, line_of[0], line_of[1], down(0, r), down(1, r), count, best, win);
                } else {
                    update(c, line_of, r, finite, count, best, win);
                }
            }
        }
    }

    // Lets classes c to c + 3 win where they exceed the best so far.
    void update_by_four(int c, size_t above, size_t below, float u, float v, size_t count, float* best, int32_t* win) {
        const float *a0 = line(c, above), *a1 = line(c + 1, above), *a2 = line(c + 2, above), *a3 = line(c + 3, above);
        const float *b0 = line(c, below), *b1 = line(c + 1, below), *b2 = line(c + 2, below), *b3 = line(c + 3, below);
        for (size_t i = 0; i < count; i++) {
            float most = best[i];
            int32_t at = win[i];
            const float v0 = a0[i] * u + b0[i] * v, v1 = a1[i] * u + b1[i] * v;
            const float v2 = a2[i] * u + b2[i] * v, v3 = a3[i] * u + b3[i] * v;
            at = v0 > most ? c : at;
            most = v0 > most ? v0 : most;
            at = v1 > most ? c + 1 : at;
            most = v1 > most ? v1 : most;
            at = v2 > most ? c + 2 : at;
            most = v2 > most ? v2 : most;
            win[i] = v3 > most ? c + 3 : at;
            best[i] = v3 > most ? v3 : most;
        }
    }

    // Lets class c win in output row r where it exceeds the best so far; NaN exceeds everything but NaN.
    void update(int c, const std::array<size_t, Taps>& line_of, int r, bool finite, size_t count, float* best,
                int32_t* win) {
        std::array<const float*, Taps> lines;
        std::array<float, Taps> share;
        for (size_t k = 0; k < Taps; k++) {
            lines[k] = line(c, line_of[k]);
            share[k] = down(static_cast<int>(k), r);
        }
        for (size_t i = 0; i < count; i++) {
            float value = lines[0][i] * share[0] + lines[1][i] * share[1];
            for (size_t k = 2; k < Taps; k++) value += lines[k][i] * share[k];
            const bool larger = finite ? value > best[i] : !(value <= best[i]) && best[i] == best[i];
            best[i] = larger ? value : best[i];
            win[i] = larger ? c : win[i];
        }
    }

    // Input row `row` of the only class at all output columns.
    void interpolate_line(int row, float* out) const {
        const float* line = x_.row(0, row);
        const int last = x_.width - 1;
        for (size_t i = 0; i < wide_; i++) {
            const int low = columns_.low[i];
            float total = line[low] * columns_.weight[0][i];
            for (int k = 1; k < Taps; k++)
                total += line[std::min(low + k, last)] * columns_.weight[static_cast<size_t>(k)][i];
            out[i] = total;
        }
    }

    const Planes& x_;
    const int first_;
    const Axis& rows_;
    const Columns& columns_;
    Class* const out_;
    const int classes_;
    const size_t width_, wide_;
    std::vector<float> best_, not_finite_, floor_, padded_, lines_, dense_best_;
    std::vector<int32_t> mixed_, length_, able_, dense_win_;
    std::array<std::vector<int32_t>, Taps> kept_;
    std::array<const int32_t*, Taps> win_{};
    std::array<int, Taps> held_{};
    std::array<bool, Taps> finite_{};
    std::vector<Class> line_;
};

// Calls work(begin, end) in `threads` threads for parts of output rows, divided at the starts of cells where possible.
template <typename Work>
void split_among_threads(int threads, const std::vector<int>& low, int begin, int end, Work work) {
    const int parts = threads > 1 ? threads * kStripsPerThread : 1;
    std::vector<int> bounds{begin};
    for (int i = 1; i < parts; i++) {
        const int cut = begin + static_cast<int>(int64_t(end - begin) * i / parts);
        const int start =
            static_cast<int>(std::lower_bound(low.begin(), low.end(), low[static_cast<size_t>(cut)]) - low.begin());
        if (start > bounds.back() && start < end) bounds.push_back(start);
    }
    bounds.push_back(end);
    std::atomic<size_t> next{0};
    std::exception_ptr failed;
    std::atomic<bool> fails{false};
    const auto worker = [&] {
        try {
            for (size_t i = next++; i + 1 < bounds.size(); i = next++) work(bounds[i], bounds[i + 1]);
        } catch (...) {
            if (!fails.exchange(true)) failed = std::current_exception();
        }
    };
    std::vector<std::thread> others;
    for (int i = 1; i < std::min(threads, static_cast<int>(bounds.size()) - 1); i++) others.emplace_back(worker);
    worker();
    for (std::thread& other : others) other.join();
    if (failed) std::rethrow_exception(failed);
}

// Calls strip(x, first, begin, end) for all output rows; x: the logits from input row `first` on.
template <typename Strip>
void run_in_strips(Rows* source, const Axis& rows, int columns, int threads, Strip strip) {
    const int64_t work = int64_t(source->channels) * source->height * source->width + int64_t(rows.out()) * columns;
    const int cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    threads = static_cast<int>(std::min<int64_t>(threads > 0 ? threads : cores, 1 + work / kWorkPerThread));
    if (const Planes* whole = source->whole()) {
        split_among_threads(threads, rows.low, 0, rows.out(),
                            [&](int begin, int end) { strip(*whole, 0, begin, end); });
        return;
    }
    const int taps = static_cast<int>(rows.weight.size());
    const int most =
        static_cast<int>(std::max<int64_t>(taps, kBandBytes / (4 * int64_t(source->channels) * source->width)));
    for (int begin = 0; begin < rows.out();) {
        const int first = rows.low[static_cast<size_t>(begin)];
        const auto beyond = std::upper_bound(rows.low.begin(), rows.low.end(), first + most - taps);
        const int end = std::max(begin + 1, static_cast<int>(beyond - rows.low.begin()));
        const Planes band = source->rows(first, std::min(rows.low[static_cast<size_t>(end - 1)] + taps, rows.side));
        split_among_threads(threads, rows.low, begin, end, [&](int low, int high) { strip(band, first, low, high); });
        begin = end;
    }
}

// An intermediate size, and the size it is cropped to, as (height, width).
struct Via {
    std::array<int, 2> size, kept;
};

// How logits become a mask of `height` x `width`: directly, or by way of an intermediate size.
struct MaskJob {
    int height, width;
    bool align_corners;
    const Via* via;      // null: directly
    bool has_threshold;  // of a head with one channel
    double threshold;
    int threads;
};

inline float sigmoid(float x) { return 1 / (1 + std::exp(-x)); }

// The c with sigmoid(x) > threshold <=> x > c in float32; false where a sigmoid in float32 saturates.
inline bool cutoff(double threshold, float* made) {
    if (threshold >= 1) {
        *made = std::numeric_limits<float>::infinity();
        return true;
    }
    if (threshold <= 0 || std::min(threshold, 1 - threshold) < 1e-5) return false;
    const double exact = std::log(threshold) - std::log1p(-threshold);
    *made = static_cast<float>(exact);
    if (static_cast<double>(*made) > exact) *made = std::nextafter(*made, -std::numeric_limits<float>::infinity());
    return true;
}

// The mask with every class interpolated, one resize after the other. NaN wins as in torch.
template <typename Class>
void plain_mask(Rows* source, const MaskJob& job, std::vector<Class>* out) {
    std::unique_ptr<ResizedRows> middle;
    if (job.via != nullptr) {
        middle = std::make_unique<ResizedRows>(source, job.via->size[0], job.via->size[1], job.via->kept[0],
                                               job.via->kept[1], job.align_corners);
        source = middle.get();
    }
    ResizedRows rows(source, job.height, job.width, job.height, job.width, job.align_corners);
    const int step = static_cast<int>(std::max<int64_t>(1, kBlockBytes / (4 * int64_t(source->channels) * job.width)));
    std::vector<float> best(static_cast<size_t>(job.width));
    for (int low = 0; low < job.height; low += step) {
        const int high = std::min(low + step, job.height);
        const Planes block = rows.rows(low, high);
        for (int y = low; y < high; y++) {
            Class* to = out->data() + static_cast<size_t>(y) * static_cast<size_t>(job.width);
            for (int c = 0; c < source->channels; c++) {
                const float* line = block.row(c, y - low);
                for (size_t i = 0; i < best.size(); i++) {
                    const float value = line[i];
                    if (job.has_threshold) {
                        to[i] = sigmoid(value) > static_cast<float>(job.threshold);
                    } else if (c == 0 || value > best[i] || (value != value && best[i] == best[i])) {
                        best[i] = value;
                        to[i] = static_cast<Class>(c);
                    }
                }
            }
        }
    }
}

template <typename Class, int Taps>
bool cell_mask(Rows* source, const Axis& rows, const Axis& cols, const MaskJob& job, std::vector<Class>* out) {
    const Columns columns(cols, source->channels);
    std::atomic<bool> finite{true};
    float limit = 0;
    if (job.has_threshold) cutoff(job.threshold, &limit);
    run_in_strips(source, rows, job.width, job.threads, [&](const Planes& x, int first, int begin, int end) {
        RowFiller<Class, Taps> filler(x, first, rows, columns, out->data());
        if (job.has_threshold) {
            filler.threshold(limit, begin, end);
        } else if (!filler.argmax(begin, end)) {
            finite = false;
        }
    });
    return finite;
}

inline Axis whole_axis(int side, int out, const MaskJob& job, size_t at) {
    if (job.via == nullptr) return axis_of(side, out, job.align_corners);
    return composed(axis_of(side, job.via->size[at], job.align_corners),
                    axis_of(job.via->kept[at], out, job.align_corners));
}

template <typename Class>
void fill_mask(Rows* source, const MaskJob& job, std::vector<Class>* out) {
    out->assign(static_cast<size_t>(job.height) * static_cast<size_t>(job.width), 0);
    Axis rows = whole_axis(source->height, job.height, job, 0), cols = whole_axis(source->width, job.width, job, 1);
    const size_t taps = std::max<size_t>(std::max(rows.weight.size(), cols.weight.size()), 2);
    float limit;
    if (taps > kMostTaps || (job.has_threshold && !cutoff(job.threshold, &limit))) return plain_mask(source, job, out);
    rows.weight.resize(taps, std::vector<float>(rows.low.size()));
    cols.weight.resize(taps, std::vector<float>(cols.low.size()));
    const bool finite = taps == 2   ? cell_mask<Class, 2>(source, rows, cols, job, out)
                        : taps == 3 ? cell_mask<Class, 3>(source, rows, cols, job, out)
                                    : cell_mask<Class, 4>(source, rows, cols, job, out);
    // the cells multiply by 0 what two resizes, or one that keeps a side, do not read, and 0 * inf is NaN
    const bool keeps_a_side = source->height == job.height || source->width == job.width;
    if (!finite && (job.via != nullptr || keeps_a_side) && source->whole() != nullptr) plain_mask(source, job, out);
}

inline Mask decide(Rows* source, const MaskJob& job) {
    Mask mask;
    mask.height = job.height;
    mask.width = job.width;
    if (source->channels <= 256) {
        fill_mask(source, job, &mask.narrow);
    } else {
        fill_mask(source, job, &mask.wide);
    }
    return mask;
}

}  // namespace detail

// ------------------------------------------------------------------------------------------------------------- engines

// What goes into a network: float32 (N, C, H, W), or uint8 (N, H, W, C). One of the two is empty.
struct NetworkInput {
    std::vector<int64_t> shape;
    std::vector<float> floats;
    std::vector<uint8_t> images;
};

// What comes out: logits (N, C, h, w), or classes (N, h, w). One of the two is empty.
struct NetworkOutput {
    std::vector<int64_t> shape;
    std::vector<float> logits;
    std::vector<uint16_t> classes;

    size_t count() const {
        uint64_t made = 1;
        for (int64_t side : shape) {
            if (side < 0 || side > kMostPixels)
                throw Error(Kind::engine, "the engine gives an output of a size without sense");
            made *= static_cast<uint64_t>(side);
            if (made > uint64_t(1) << 40) throw Error(Kind::engine, "the engine gives an output that is too large");
        }
        return static_cast<size_t>(made);
    }
    // Numbers of `shape` as the runtime holds them: logits if they are floats of four dimensions, classes otherwise.
    template <typename T>
    void take(const T* data) {
        const size_t size = count();
        if constexpr (std::is_same_v<T, float>) {
            if (shape.size() == 4) {
                logits.assign(data, data + size);
                return;
            }
        }
        classes.resize(size);
        for (size_t i = 0; i < size; i++) classes[i] = static_cast<uint16_t>(data[i]);
    }
    [[noreturn]] static void refuse_type() {
        throw Error(Kind::engine, "the engine gives an output of a type that is neither logits nor a mask");
    }
};

// An engine in its runtime. runner.hpp of a bundle has the one for its target.
class Network {
public:
    virtual ~Network() = default;
    // logits: give those beside a mask, of an engine that has both (output.beside of the manifest). Throws Error.
    virtual NetworkOutput run(const NetworkInput& x, bool logits) = 0;
};

// A bundle ready to run. Not for several threads at once. threads: for masks; 0 takes one for each core.
class Engine {
public:
    Engine(const Manifest& manifest, Network& network, int threads = 0)
        : manifest_(manifest), network_(network), threads_(threads) {}

    // The classes of the pixels of an image as `read_image` gives it, at the image's size. Throws Error.
    Mask segment(const Image& image) {
        const OutputSpec& output = manifest_.output;
        if (manifest_.input.images) return segment_images(image);
        const Prepared made = preprocess(image, manifest_);
        if (manifest_.slide) {
            Sliding windows(this, made);
            return decide(&windows, image, nullptr);
        }
        const detail::Planes x = filled(made.x);
        if (output.from_logits())
            return from_logits(logits_of(run(as_input(x))), {x.height, x.width}, {made.height, made.width}, image);
        return of_mask(run(as_input(x)), {x.height, x.width}, {made.height, made.width}, image);
    }

private:
    using Size = std::array<int, 2>;  // (height, width)

    // mmseg's sliding window: patches in a grid whose last row and column are moved back inside, averaged where they
    // overlap. One band of the crop's height is held, not the whole of the logits.
    class Sliding : public detail::Rows {
    public:
        Sliding(Engine* engine, const Prepared& made)
            : Rows(engine->manifest_.output.channels, made.height, made.width),
              engine_(engine),
              x_(made.x),
              tops_(starts(made.x.height, 0)),
              lefts_(starts(made.x.width, 1)),
              sums_(detail::make_planes(channels, 0, made.x.width)) {}

        detail::Planes rows(int low, int high) override {
            drop(low);
            while (next_ < tops_.size() && tops_[next_] < high) run_grid_row();
            detail::Planes made = detail::make_planes(channels, high - low, width);
            for (int c = 0; c < channels; c++) {
                for (int y = low; y < high; y++) {
                    const float *sum = sums_.row(c, y - first_),
                                *count = counts_.data() + static_cast<size_t>(y - first_) * line();
                    float* to = made.row(c, y - low);
                    for (int i = 0; i < width; i++) to[i] = sum[i] / count[i];
                }
            }
            return made;
        }

    private:
        size_t line() const { return static_cast<size_t>(x_.width); }

        std::vector<int> starts(int side, size_t axis) const {
            const int crop = engine_->manifest_.crop[axis], stride = engine_->manifest_.stride[axis];
            std::vector<int> made;
            const int count = std::max(side - crop + stride - 1, 0) / stride + 1;
            for (int at = 0; at < count; at++) made.push_back(std::max(std::min(at * stride + crop, side) - crop, 0));
            return made;
        }

        // Rows before `low` will not be asked for again.
        void drop(int low) {
            const int gone = std::min(low - first_, sums_.height);
            if (gone <= 0) return;
            detail::Planes kept = detail::make_planes(channels, sums_.height - gone, x_.width);
            for (int c = 0; c < channels; c++)
                for (int y = 0; y < kept.height; y++) std::copy_n(sums_.row(c, y + gone), x_.width, kept.row(c, y));
            counts_.erase(counts_.begin(),
                          counts_.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(gone) * line()));
            sums_ = std::move(kept);
            first_ += gone;
        }

        void run_grid_row() {
            const int top = tops_[next_++], bottom = std::min(top + engine_->manifest_.crop[0], x_.height);
            const int rows = std::max(sums_.height, bottom - first_);
            sums_ = detail::grown(sums_, rows, x_.width, 0);
            counts_.resize(static_cast<size_t>(rows) * line());
            for (int left : lefts_) {
                const int wide = std::min(engine_->manifest_.crop[1], x_.width - left);
                detail::Planes part = detail::make_planes(x_.channels, bottom - top, wide);
                for (int c = 0; c < x_.channels; c++)
                    for (int y = top; y < bottom; y++) std::copy_n(x_.row(c, y) + left, wide, part.row(c, y - top));
                add(engine_->patch(part), std::max(top, first_), top, left);
            }
        }

        void add(const detail::Planes& patch, int from, int top, int left) {
            for (int y = from; y < top + patch.height; y++) {
                float* count = counts_.data() + static_cast<size_t>(y - first_) * line() + left;
                for (int i = 0; i < patch.width; i++) count[i] += 1;
                for (int c = 0; c < channels; c++) {
                    float* sum = sums_.row(c, y - first_) + left;
                    const float* more = patch.row(c, y - top);
                    for (int i = 0; i < patch.width; i++) sum[i] += more[i];
                }
            }
        }

        Engine* engine_;
        const detail::Planes& x_;
        const std::vector<int> tops_, lefts_;
        size_t next_ = 0;  // of the grid's rows
        int first_ = 0;    // the image's row that the buffers begin with
        detail::Planes sums_;
        std::vector<float> counts_;
    };

    Mask segment_images(const Image& image) {
        const Image made = detail::transformed(image, manifest_.steps);
        const InputSpec& wanted = manifest_.input;
        if (made.height != wanted.height.low || made.width != wanted.width.low || made.channels != 3) {
            throw Error(Kind::shape, "the engine takes images of " + std::to_string(wanted.width.low) + "x" +
                                         std::to_string(wanted.height.low) + " pixels");
        }
        NetworkInput x;
        x.images = detail::eight_bits(made, "an engine for images");
        x.shape = {1, made.height, made.width, 3};
        const Size sides{made.height, made.width};
        if (manifest_.output.from_logits()) return from_logits(logits_of(run(x)), sides, sides, image);
        return of_mask(run(x), sides, sides, image);
    }

    // sides: of the network's input; kept: without the padding.
    Mask from_logits(const detail::Planes& logits, Size sides, Size kept, const Image& image) {
        const OutputSpec& output = manifest_.output;
        const bool small = output.mask ? output.resize : manifest_.direct;
        if (!small) {
            const detail::Planes whole = detail::cropped(
                detail::resized_planes(logits, sides[0], sides[1], manifest_.align_corners), kept[0], kept[1]);
            detail::PlaneRows rows(whole);
            return decide(&rows, image, nullptr);
        }
        detail::PlaneRows rows(logits);
        const bool as_large = kept == sides;
        const bool once = (manifest_.direct && as_large) || (as_large && kept == Size{image.height, image.width});
        const detail::Via via{sides, kept};
        return decide(&rows, image, once ? nullptr : &via);
    }

    Mask decide(detail::Rows* rows, const Image& image, const detail::Via* via) {
        const bool threshold = manifest_.output.has_threshold && rows->channels == 1;
        return detail::decide(rows, {image.height, image.width, manifest_.align_corners, via, threshold,
                                     manifest_.output.threshold, threads_});
    }

    // A mask of an engine, resized by nearest neighbour: to the network's input, cropped, to the image.
    Mask of_mask(const NetworkOutput& made, Size sides, Size kept, const Image& image) {
        if (made.shape.size() != 3 || made.shape[0] < 1 || made.shape[1] < 1 || made.shape[2] < 1 ||
            made.classes.empty()) {
            throw Error(Kind::engine, "the engine gives no mask (N, H, W), which the bundle promises");
        }
        const Size own{static_cast<int>(made.shape[1]), static_cast<int>(made.shape[2])},
            size{image.height, image.width};
        std::array<std::vector<size_t>, 2> from;
        for (size_t axis = 0; axis < 2; axis++) {
            for (int64_t at = 0; at < size[axis]; at++) {
                const int64_t middle = (2 * at + 1) * kept[axis] / (2 * int64_t(size[axis]));
                from[axis].push_back(static_cast<size_t>((2 * middle + 1) * own[axis] / (2 * int64_t(sides[axis]))));
            }
        }
        Mask mask;
        mask.height = image.height;
        mask.width = image.width;
        const bool wide = manifest_.output.channels > 256;
        for (size_t row : from[0]) {
            for (size_t column : from[1]) {
                const uint16_t value = made.classes[row * static_cast<size_t>(own[1]) + column];
                if (wide) {
                    mask.wide.push_back(value);
                } else {
                    mask.narrow.push_back(static_cast<uint8_t>(value));
                }
            }
        }
        return mask;
    }

    // The logits of a patch, at its size.
    detail::Planes patch(const detail::Planes& x) {
        const detail::Planes full = filled(x);
        const detail::Planes logits = logits_of(run(as_input(full)));
        return detail::cropped(detail::resized_planes(logits, full.height, full.width, manifest_.align_corners),
                               x.height, x.width);
    }

    // Padded to the right and bottom to a size that the engine takes.
    detail::Planes filled(const detail::Planes& x) const {
        const InputSpec& input = manifest_.input;
        const int height = accepted(x.height, input.height, input.fixed_height ? 1 : input.divisor, "height");
        const int width = accepted(x.width, input.width, input.fixed_width ? 1 : input.divisor, "width");
        return detail::grown(x, height, width, manifest_.pad_value);
    }

    static int accepted(int side, const Range& range, int divisor, const char* name) {
        const int wanted = detail::up_to_multiple(std::max(side, range.low), divisor);
        if (range.high > 0 && wanted > range.high) {
            throw Error(Kind::shape, std::string("the ") + name + " " + std::to_string(side) +
                                         " is outside of what the engine takes, " + std::to_string(range.low) + " to " +
                                         std::to_string(range.high) + " pixels");
        }
        return wanted;
    }

    NetworkInput as_input(const detail::Planes& x) const {
        NetworkInput made;
        made.shape = {1, x.channels, x.height, x.width};
        made.floats = x.data;
        return made;
    }

    // One image, repeated for an engine that takes no fewer than several.
    NetworkOutput run(NetworkInput x) {
        const int least = manifest_.input.batch.low;
        const size_t floats = x.floats.size(), images = x.images.size();
        x.shape[0] = least;
        x.floats.resize(floats * static_cast<size_t>(least));
        x.images.resize(images * static_cast<size_t>(least));
        for (int n = 1; n < least; n++) {
            std::copy_n(x.floats.begin(), floats,
                        x.floats.begin() + static_cast<std::ptrdiff_t>(floats * static_cast<size_t>(n)));
            std::copy_n(x.images.begin(), images,
                        x.images.begin() + static_cast<std::ptrdiff_t>(images * static_cast<size_t>(n)));
        }
        return network_.run(x, manifest_.output.beside);
    }

    // The logits of the first image.
    detail::Planes logits_of(const NetworkOutput& made) const {
        const int channels = manifest_.output.channels;
        const bool good = made.shape.size() == 4 && made.shape[0] >= 1 && made.shape[1] == channels &&
                          made.shape[2] >= 1 && made.shape[3] >= 1;
        if (!good || made.logits.size() != made.count()) {
            throw Error(Kind::engine, "the engine gives no logits (N, " + std::to_string(channels) +
                                          ", H, W), which the bundle promises");
        }
        detail::Planes logits{channels, static_cast<int>(made.shape[2]), static_cast<int>(made.shape[3]), {}};
        const size_t count = made.count() / static_cast<size_t>(made.shape[0]);
        logits.data.assign(made.logits.begin(), made.logits.begin() + static_cast<std::ptrdiff_t>(count));
        return logits;
    }

    const Manifest manifest_;
    Network& network_;
    const int threads_;
};

// --------------------------------------------------------------------------------------------------------- PNG of
// masks

namespace detail {

// zlib data of repeats of the byte before and of single bytes, in the fixed code: what masks need.
class Deflater {
public:
    std::vector<uint8_t> deflate(const std::vector<uint8_t>& data) {
        made_ = {0x78, 0x01};
        bits(3, 3);  // the last block, in the fixed code
        for (size_t at = 0; at < data.size();) {
            size_t same = 0;
            while (at > 0 && same < 258 && at + same < data.size() && data[at + same] == data[at - 1]) same++;
            if (same >= 3) {
                repeat(static_cast<uint32_t>(same));
                at += same;
            } else {
                literal(data[at++]);
            }
        }
        literal(256);
        bits(0, 7);  // the last byte is complete
        const uint32_t sum = adler32(data.data(), data.size());
        for (int shift = 24; shift >= 0; shift -= 8) made_.push_back(static_cast<uint8_t>(sum >> shift));
        return std::move(made_);
    }

private:
    void bits(uint32_t value, int count) {
        buffer_ |= uint64_t(value) << held_;
        for (held_ += count; held_ >= 8; held_ -= 8, buffer_ >>= 8) made_.push_back(static_cast<uint8_t>(buffer_));
    }
    void code(uint32_t value, int count) {
        for (int bit = count - 1; bit >= 0; bit--) bits(value >> bit & 1, 1);
    }
    void literal(uint32_t symbol) {
        if (symbol < 144) {
            code(0x30 + symbol, 8);
        } else if (symbol < 256) {
            code(0x190 + symbol - 144, 9);
        } else if (symbol < 280) {
            code(symbol - 256, 7);
        } else {
            code(0xC0 + symbol - 280, 8);
        }
    }
    void repeat(uint32_t length) {
        if (length == 258) {
            literal(285);
        } else {
            int extra = 0;
            while (length - 3 >= 8u << extra) extra++;
            literal(257 + 4 * static_cast<uint32_t>(extra) + ((length - 3) >> extra));
            bits((length - 3) & ((1u << extra) - 1), extra);
        }
        code(0, 5);  // from one byte before
    }

    std::vector<uint8_t> made_;
    uint64_t buffer_ = 0;
    int held_ = 0;
};

inline void append_chunk(const char* name, const std::vector<uint8_t>& content, std::vector<uint8_t>* png) {
    const auto number = [&](uint32_t value) {
        for (int shift = 24; shift >= 0; shift -= 8) png->push_back(static_cast<uint8_t>(value >> shift));
    };
    number(static_cast<uint32_t>(content.size()));
    const size_t start = png->size();
    png->insert(png->end(), name, name + 4);
    png->insert(png->end(), content.begin(), content.end());
    number(crc32(png->data() + start, png->size() - start));
}

}  // namespace detail

// A PNG: class numbers with the classes' colours as palette, 16 bits of grey above 256 classes.
inline std::vector<uint8_t> png_of(const Mask& mask, const Manifest& manifest) {
    const bool wide = mask.is_wide();
    const uint32_t width = static_cast<uint32_t>(mask.width), height = static_cast<uint32_t>(mask.height);
    std::vector<uint8_t> head, colours(768), raw;
    for (uint32_t side : {width, height})
        for (int shift = 24; shift >= 0; shift -= 8) head.push_back(static_cast<uint8_t>(side >> shift));
    const uint8_t rest[] = {static_cast<uint8_t>(wide ? 16 : 8), static_cast<uint8_t>(wide ? 0 : 3), 0, 0, 0};
    head.insert(head.end(), rest, rest + 5);
    for (size_t i = 0; i < std::min<size_t>(manifest.palette.size(), 256); i++)
        std::copy_n(manifest.palette[i].begin(), 3, colours.begin() + static_cast<std::ptrdiff_t>(3 * i));
    raw.reserve(static_cast<size_t>(height) * (static_cast<size_t>(width) * (wide ? 2 : 1) + 1));
    for (int y = 0; y < mask.height; y++) {
        raw.push_back(y == 0 ? 0 : 2);  // each byte less the one above, which makes repeats of 0
        for (int x = 0; x < mask.width; x++) {
            const int value = mask.at(y, x), above = y == 0 ? 0 : mask.at(y - 1, x);
            if (wide) raw.push_back(static_cast<uint8_t>((value >> 8) - (above >> 8)));
            raw.push_back(static_cast<uint8_t>((value & 255) - (above & 255)));
        }
    }
    std::vector<uint8_t> png{0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
    detail::append_chunk("IHDR", head, &png);
    if (!wide) detail::append_chunk("PLTE", colours, &png);
    detail::append_chunk("IDAT", detail::Deflater().deflate(raw), &png);
    detail::append_chunk("IEND", {}, &png);
    return png;
}

inline void write_mask(const std::string& path, const Mask& mask, const Manifest& manifest) {
    const std::vector<uint8_t> png = png_of(mask, manifest);
    std::ofstream file(path, std::ios::binary);
    file.write(reinterpret_cast<const char*>(png.data()), static_cast<std::streamsize>(png.size()));
    file.close();
    if (!file) throw Error(Kind::file, "cannot write " + path);
}

}  // namespace segc

#endif  // SEGC_HPP
