// keyrange_filter.hpp: filters in C++17, over keyrange.h: chains for requests to pass, and filters of your own in them.
//
//     struct clip : keyrange::filter {
//         explicit clip(const std::string &parameter) { ... }      // what follows the name in a chain; throw to refuse it
//         void apply(keyrange::row_view &rows) override            // throw to fail the request
//         {
//             rows.each([&](auto &value) { value = std::min<double>(value, limit); });
//         }
//     };
//     keyrange::functions mine = keyrange::functions::make().value();          // keyrange_function.hpp
//     mine.add_filter<clip>("clip").value();
//     keyrange::chain push = keyrange::chain::make("user:clip:5,lz4", keyrange::direction::push, 1, mine.raw()).value();
//     keyrange::options how;
//     how.push_chain = push;
//     worker.push(weights, keys, gradient, how).value().wait().value();
//
// An object is made for each chain, and used by one thread at a time. What it throws reaches the worker as KR_REFUSED, with what().
#ifndef KEYRANGE_FILTER_HPP
#define KEYRANGE_FILTER_HPP

#include <cstring>
#include <optional>
#include <stdexcept>

#include "keyrange.hpp"

namespace keyrange {

/// Rows of one message on their way, valid during the call.
class row_view {
public:
    explicit row_view(const kr_rows *rows) : rows_(rows) {}
    /// Number of rows, those left out before included.
    std::size_t size() const noexcept { return rows_->rows; }
    /// Values per row and array.
    std::size_t width() const noexcept { return rows_->width; }
    /// The request's time.
    std::uint64_t time() const noexcept { return rows_->time; }
    /// Number of the table.
    std::uint16_t table() const noexcept { return rows_->table; }
    /// Number of arrays.
    std::size_t parts() const noexcept { return rows_->parts_count; }
    /// Whether the values are of type V.
    template <class V>
    bool is() const noexcept
    {
        return rows_->value_type == detail::code<V>::value;
    }
    /// Array `at`, size() x width() values; throws if there is none, or of another type (without exceptions: an empty view).
    template <class V>
    view<V> part(std::size_t at = 0) const
    {
        if (is<V>() && at < parts())
            return view<V>(static_cast<V *>(rows_->parts[at]), size() * width());
#if defined(__cpp_exceptions)
        throw std::invalid_argument("no array " + std::to_string(at) + " of this type: there are " + std::to_string(parts()) +
                                    (is<float>() ? " of float" : " of double"));
#else
        return view<V>(nullptr, 0);
#endif
    }
    /// The key of a row; none where only the rows are known (at the servers, for key lists they have seen).
    std::optional<std::uint64_t> key(std::size_t row) const
    {
        return rows_->keys != nullptr && row < size() ? std::optional<std::uint64_t>(rows_->keys[row]) : std::nullopt;
    }
    bool is_present(std::size_t row) const noexcept { return row < size() && rows_->present[row] != 0; }
    /// Leaves a row out: a push adds nothing for it, a pull reads it as 0.
    void drop(std::size_t row) noexcept
    {
        if (row < size())
            rows_->present[row] = 0;
    }
    /// Calls `change` with a reference to each value of the rows that are there, float & or double &.
    template <class Change>
    void each(Change change)
    {
        is<float>() ? each_of<float>(change) : each_of<double>(change);
    }

private:
    template <class V, class Change>
    void each_of(Change &change)
    {
        for (std::size_t at = 0; at < parts(); at++) {
            V *values = static_cast<V *>(rows_->parts[at]);
            for (std::size_t row = 0; row < size(); row++)
                for (std::size_t i = 0; is_present(row) && i < width(); i++)
                    change(values[row * width() + i]);
        }
    }
    const kr_rows *rows_;
};

/// A filter of your own. A class that says `using value_type = float` (or double) is for tables of that type only.
class filter {
public:
    virtual ~filter() = default;
    /// Changes values, or leaves rows out.
    virtual void apply(row_view &rows) = 0;
};

namespace detail {

/// Runs `work`; what it throws becomes the reply's reason, and the result 1.
template <class Work>
std::int32_t caught(kr_reply *reply, Work work)
{
#if defined(__cpp_exceptions)
    const char *unknown = "it threw what is no std::exception";
    try {
        work();
        return 0;
    } catch (const std::exception &failure) {
        kr_reply_write(reply, failure.what(), std::strlen(failure.what()));
    } catch (...) {
        kr_reply_write(reply, unknown, std::strlen(unknown));
    }
    return 1;
#else
    (void)reply;
    work();
    return 0;
#endif
}

template <class F, class = void>
struct value_type_of {
    static constexpr std::uint32_t value = 0;
};
template <class F>
struct value_type_of<F, std::void_t<typename F::value_type>> {
    static constexpr std::uint32_t value = code<typename F::value_type>::value;
};

/// The functions of C around filter F.
template <class F>
struct filter_shell {
    static void *create(void *, const char *parameter, kr_reply *reply)
    {
        F *made = nullptr;
        caught(reply, [&] { made = new F(std::string(parameter)); });
        return made;
    }
    static void destroy(void *, void *state) { delete static_cast<F *>(state); }
    static std::int32_t apply(void *, void *state, const kr_rows *rows, kr_reply *reply)
    {
        row_view rows_seen(rows);
        return caught(reply, [&] { static_cast<F *>(state)->apply(rows_seen); });
    }
};

template <class F>
kr_filter filter_of(const char *name)
{
    static_assert(std::is_base_of<filter, F>::value, "expected a class of keyrange::filter");
    kr_filter made{};
    made.size = sizeof made;
    made.name = name;
    made.value_type = value_type_of<F>::value;
    made.create = &filter_shell<F>::create;
    made.destroy = &filter_shell<F>::destroy;
    made.rows = &filter_shell<F>::apply;
    return made;
}

} // namespace detail

/// Which way values go.
enum class direction : std::uint32_t { push = KR_PUSH, pull = KR_PULL };

/// What one filter of a chain has done; see kr_filter_report.
struct filter_report {
    std::string filter;
    std::uint64_t bytes_in, bytes_out, entries_dropped, nanoseconds;
};

/// Rows that `significant` has held back.
template <class V>
struct held_back {
    std::vector<std::uint64_t> keys;
    /// Arrays of keys x width values.
    std::vector<std::vector<V>> parts;
};

/// Filters at work in one direction, with what they remember: one for each worker and direction. Copies of this object share them.
class chain {
public:
    /// `filters` as in kr_chain_new(); `own` are the functions with your own filters.
    static result<chain> make(const std::string &filters, direction way, std::uint64_t seed = 0, kr_functions *own = nullptr)
    {
        kr_chain *made = nullptr;
        kr_status status = kr_chain_new(filters.c_str(), static_cast<std::uint32_t>(way), seed, own, &made);
        if (status != KR_OK)
            return detail::last(status);
        return chain(made);
    }
    /// What each filter has done so far, in the order of the chain.
    result<std::vector<filter_report>> report() const
    {
        std::vector<filter_report> all;
        auto visit = [](void *context, const kr_filter_report *told) {
            static_cast<std::vector<filter_report> *>(context)->push_back(
                {told->filter, told->bytes_in, told->bytes_out, told->entries_dropped, told->nanoseconds});
        };
        kr_status status = kr_chain_report(raw(), visit, &all);
        if (status != KR_OK)
            return detail::last(status);
        return all;
    }
    /// Takes what `significant` has held back from pushes to `of`: push it without the chain at the end, and nothing is missing.
    template <class V>
    result<held_back<V>> take_held_back(table<V> of)
    {
        held_back<V> all;
        std::pair<held_back<V> *, std::size_t> into{&all, of.raw.width};
        auto visit = [](void *context, const std::uint64_t *keys, std::size_t count, const void *const *parts, std::size_t parts_count) {
            auto *into = static_cast<std::pair<held_back<V> *, std::size_t> *>(context);
            into->first->keys.assign(keys, keys + count);
            for (std::size_t at = 0; at < parts_count; at++) {
                const V *values = static_cast<const V *>(parts[at]);
                into->first->parts.emplace_back(values, values + count * into->second);
            }
        };
        kr_status status = kr_chain_take_held_back(raw(), of.raw, visit, &into);
        if (status != KR_OK)
            return detail::last(status);
        return all;
    }
    kr_chain *raw() const noexcept { return handle_.get(); }
    /// To stand in options.
    operator std::shared_ptr<kr_chain>() const { return handle_; }

private:
    explicit chain(kr_chain *handle) : handle_(handle, [](kr_chain *freed) { kr_chain_free(freed); }) {}
    std::shared_ptr<kr_chain> handle_;
};

} // namespace keyrange

#endif
