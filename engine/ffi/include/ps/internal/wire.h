// Numbers and bytes, one after the other, in the calls between nodes. All nodes of a job have the same byte order.
#ifndef PS_INTERNAL_WIRE_H_
#define PS_INTERNAL_WIRE_H_

#include "ps/internal/utils.h"

namespace ps {
namespace internal {

class Writer {
public:
    template <typename T>
    Writer &put(const T &number) {
        bytes_.append(reinterpret_cast<const char *>(&number), sizeof number);
        return *this;
    }
    Writer &text(const std::string &text) {
        put(static_cast<uint64_t>(text.size()));
        bytes_ += text;
        return *this;
    }
    const std::string &bytes() const { return bytes_; }

private:
    std::string bytes_;
};

class Reader {
public:
    Reader(const void *bytes, size_t size) : at_(static_cast<const char *>(bytes)), left_(size) {}
    explicit Reader(const std::string &bytes) : Reader(bytes.data(), bytes.size()) {}

    template <typename T>
    T get() {
        T number;
        need(sizeof number);
        memcpy(&number, at_, sizeof number);
        skip(sizeof number);
        return number;
    }
    std::string text() {
        const uint64_t size = get<uint64_t>();
        need(size);
        std::string text(at_, static_cast<size_t>(size));
        skip(static_cast<size_t>(size));
        return text;
    }
    const char *rest() const { return at_; }
    size_t left() const { return left_; }

private:
    void need(uint64_t size) const {
        if (size > left_)
            throw dmlc::Error("a message of another node: expected " + std::to_string(size) + " more bytes, got " +
                              std::to_string(left_) + "; all nodes must be built with the same headers");
    }
    void skip(size_t size) {
        at_ += size;
        left_ -= size;
    }
    const char *at_;
    size_t left_;
};

}  // namespace internal
}  // namespace ps

#endif  // PS_INTERNAL_WIRE_H_
