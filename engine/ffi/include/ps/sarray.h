// SArray: an array that copies share. Copies, segments and reinterpretations keep the memory alive together.
#ifndef PS_SARRAY_H_
#define PS_SARRAY_H_

#include <initializer_list>
#include <type_traits>

#include "ps/internal/utils.h"
#include "ps/range.h"

namespace ps {

// Of the bytedance fork: where an array lies. Arrays here lie in the memory of the CPU, and their fields say so.
enum DeviceType { UNK, CPU, GPU };

template <typename V>
class SArray {
public:
    SArray() {}
    ~SArray() {}
    SArray(const SArray &) = default;
    SArray &operator=(const SArray &) = default;

    // `size` values of `value`.
    explicit SArray(size_t size, V value = 0) { resize(size, value); }

    // The same memory, read as values of another type.
    template <typename W>
    explicit SArray(const SArray<W> &other) {
        *this = other;
    }
    template <typename W>
    void operator=(const SArray<W> &other) {
        const size_t bytes = other.size() * sizeof(W);
        CHECK_EQ(bytes % sizeof(V), size_t(0)) << "the bytes do not make whole values";
        size_ = bytes / sizeof(V);
        capacity_ = other.capacity() * sizeof(W) / sizeof(V);
        ptr_ = std::shared_ptr<V>(other.ptr(), reinterpret_cast<V *>(other.data()));
    }

    // Somebody's memory: borrowed, or ours to delete[].
    SArray(V *data, size_t size, bool deletable = false) {
        if (deletable) {
            reset(data, size, [](V *old) { delete[] old; });
        } else {
            reset(data, size, [](V *) {});
        }
    }

    // Of the bytedance fork.
    SArray(V *data, size_t size, DeviceType source, int source_id, DeviceType destination, int destination_id,
           bool deletable = false)
        : SArray(data, size, deletable) {
        on(source, source_id, destination, destination_id);
    }

    // A copy of the vector.
    explicit SArray(const std::vector<V> &values) { CopyFrom(values.data(), values.size()); }

    // The vector's own memory, kept alive.
    explicit SArray(const std::shared_ptr<std::vector<V>> &values) {
        ptr_ = std::shared_ptr<V>(values, values->data());
        size_ = values->size();
        capacity_ = size_;
    }

    template <typename W>
    SArray(const std::initializer_list<W> &values) {
        CopyFrom(values.begin(), values.end());
    }
    template <typename W>
    void operator=(const std::initializer_list<W> &values) {
        CopyFrom(values.begin(), values.end());
    }

    void CopyFrom(const V *values, size_t size) {
        SArray fresh;
        fresh.make(size, 0);
        if (size > 0) copy(fresh.data(), values, size);
        *this = fresh;
    }
    void CopyFrom(const SArray &other) {
        if (this != &other) CopyFrom(other.data(), other.size());
    }
    template <typename It>
    void CopyFrom(const It &first, const It &last) {
        SArray fresh;
        fresh.make(static_cast<size_t>(std::distance(first, last)), 0);
        V *to = fresh.data();
        for (It at = first; at != last; ++at) *to++ = static_cast<V>(*at);
        *this = fresh;
    }

    // Lets go of what it had, and holds `data` until the last copy lets go: then `deleter(data)` is called.
    template <typename Deleter>
    void reset(V *data, size_t size, Deleter deleter) {
        size_ = size;
        capacity_ = size;
        ptr_.reset(data, deleter);
    }

    // Of the bytedance fork.
    template <typename Deleter>
    void reset(V *data, size_t size, Deleter deleter, DeviceType source, int source_id = 0, DeviceType destination = CPU,
               int destination_id = 0) {
        on(source, source_id, destination, destination_id);
        reset(data, size, deleter);
    }

    // New values at the end are `value`. Memory is kept when it is enough; else copies keep the old one.
    void resize(size_t size, V value = 0) {
        const size_t old = size_;
        if (size > capacity_) {
            SArray fresh;
            fresh.make(size, 5);
            if (old > 0) copy(fresh.data(), data(), old);
            *this = fresh;
        }
        size_ = size;
        if (size > old) std::fill(data() + old, data() + size, value);
    }

    void reserve(size_t size) {
        if (capacity_ >= size) return;
        const size_t old = size_;
        resize(size);
        size_ = old;
    }

    // Lets go of the memory.
    void clear() {
        reset(nullptr, 0, [](V *) {});
    }

    bool empty() const { return size_ == 0; }
    size_t size() const { return size_; }
    size_t capacity() const { return capacity_; }

    V *begin() { return data(); }
    const V *begin() const { return data(); }
    V *end() { return data() + size_; }
    const V *end() const { return data() + size_; }
    V *data() const { return ptr_.get(); }

    std::shared_ptr<V> &ptr() { return ptr_; }
    const std::shared_ptr<V> &ptr() const { return ptr_; }

    V back() const {
        CHECK(!empty());
        return data()[size_ - 1];
    }
    V front() const {
        CHECK(!empty());
        return data()[0];
    }
    V &operator[](int at) { return data()[at]; }
    const V &operator[](int at) const { return data()[at]; }

    void push_back(const V &value) {
        const V kept = value;
        if (size_ == capacity_) reserve(size_ * 2 + 5);
        data()[size_++] = kept;
    }
    void pop_back() {
        if (size_ > 0) --size_;
    }
    void append(const SArray &other) {
        if (other.empty()) return;
        const SArray kept(other);
        const size_t old = size_;
        resize(old + kept.size());
        copy(data() + old, kept.data(), kept.size());
    }

    // Values `begin` to `end` (not included), in the same memory.
    SArray segment(size_t begin, size_t end) const {
        CHECK_GE(end, begin);
        CHECK_LE(end, size_);
        SArray part;
        part.ptr_ = std::shared_ptr<V>(ptr_, data() + begin);
        part.size_ = end - begin;
        part.capacity_ = end - begin;
        return part;
    }

    // Of the bytedance fork: the first and last few values.
    std::string DebugString() const;

    static const DeviceType src_device_type_ = CPU, dst_device_type_ = CPU;
    static const int src_device_id_ = 0, dst_device_id_ = 0;

private:
    static void on(DeviceType source, int, DeviceType destination, int) {
        CHECK(source != GPU && destination != GPU) << "SArray: expected memory of the CPU; copy what lies on a GPU there first";
    }

    // Room for `size` values and some more, not initialised where V allows that.
    void make(size_t size, size_t more) {
        reset(size + more > 0 ? new V[size + more] : nullptr, size, [](V *old) { delete[] old; });
        capacity_ = size + more;
    }
    static void copy(V *to, const V *from, size_t size) { std::copy(from, from + size, to); }

    size_t size_ = 0;
    size_t capacity_ = 0;
    std::shared_ptr<V> ptr_;
};

// Where the values from `lower` to `upper` (not included) lie in a rising array.
template <typename V>
Range FindRange(const SArray<V> &rising, V lower, V upper) {
    if (upper <= lower) return Range(0, 0);
    const V *first = std::lower_bound(rising.begin(), rising.end(), lower);
    const V *last = std::lower_bound(rising.begin(), rising.end(), upper);
    return Range(static_cast<uint64_t>(first - rising.begin()), static_cast<uint64_t>(last - rising.begin()));
}

// The first and last few values, for messages.
template <typename V>
inline std::string DebugStr(const V *values, int size, int shown = 5) {
    std::ostringstream text;
    for (int at = 0; at < size; ++at) {
        if (at == shown && size > 2 * shown) {
            text << "... ";
            at = size - shown;
        }
        text << values[at] << ' ';
    }
    return text.str();
}

template <typename V>
const DeviceType SArray<V>::src_device_type_;
template <typename V>
const DeviceType SArray<V>::dst_device_type_;
template <typename V>
const int SArray<V>::src_device_id_;
template <typename V>
const int SArray<V>::dst_device_id_;

template <typename V>
std::string SArray<V>::DebugString() const {
    return DebugStr(data(), static_cast<int>(size_));
}

template <typename V>
std::ostream &operator<<(std::ostream &to, const SArray<V> &array) {
    return to << '[' << array.size() << "]: " << DebugStr(array.data(), static_cast<int>(array.size()));
}

}  // namespace ps

#endif  // PS_SARRAY_H_
