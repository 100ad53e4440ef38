// keyrange_function.hpp: server functions in C++17, over keyrange.h.
//
//     struct clipped_sgd : keyrange::server_function<float> {
//         explicit clipped_sgd(const std::string &params_json) { ... }             // throw to refuse the table
//         void update(arrays columns, const_arrays pushed) override { ... }        // throw to refuse the push
//     };
//     keyrange::functions mine = keyrange::functions::make().value();
//     mine.add<clipped_sgd>("clipped_sgd").value();
//     keyrange::cluster cluster = keyrange::cluster::start(keyrange::job(1, 1), mine.raw()).value();
//
// An object is made for each table and server thread, and used by that thread only. What an object throws reaches the worker as
// KR_REFUSED, with what(). (Filters, which are added to the same `functions`: keyrange_filter.hpp.) The `functions` may end when the servers they were given to have started.
#ifndef KEYRANGE_FUNCTION_HPP
#define KEYRANGE_FUNCTION_HPP

#include "keyrange_filter.hpp"

namespace keyrange {

/// Several arrays of the same length.
template <class V, class Pointer>
class array_list {
public:
    array_list(Pointer const *arrays, std::size_t size) : arrays_(arrays), size_(size) {}
    /// Array `at`, size() values.
    V *operator[](std::size_t at) const noexcept { return static_cast<V *>(arrays_[at]); }
    /// Values of each.
    std::size_t size() const noexcept { return size_; }

private:
    Pointer const *arrays_;
    std::size_t size_;
};

/// What all functions of a kind have in common; see kr_function.
struct function_shape {
    std::uint32_t push_parts = 1;
    std::uint32_t state_columns = 0;
    bool apply_each = false;
    /// 1 + state_columns numbers, or none for zeros.
    std::vector<double> initial;
    /// push_parts numbers, or none for zeros: what aggregate() begins with.
    std::vector<double> neutral;
};

/// A server function with values of type V. Its class may have a `static function_shape shape()`, and an `aggregate` like `update`:
/// void aggregate(arrays sums, const_arrays pushed).
template <class V>
class server_function {
public:
    using value_type = V;
    using arrays = array_list<V, void *>;
    using const_arrays = array_list<const V, const void *>;

    virtual ~server_function() = default;
    /// Applies a push to the rows concerned. Throw before a column is changed: nothing is undone.
    virtual void update(arrays columns, const_arrays pushed) = 0;
    /// Answers a worker's kr_call().
    virtual std::string call(const std::string &verb, const std::string &) 
    {
#if defined(__cpp_exceptions)
        throw std::invalid_argument("no verb " + verb);
#else
        return "no verb " + verb;
#endif
    }
};

namespace detail {

template <class F, class = void>
struct shape_of {
    static function_shape get() { return function_shape(); }
};
template <class F>
struct shape_of<F, std::void_t<decltype(F::shape())>> {
    static function_shape get() { return F::shape(); }
};

template <class F, class = void>
struct aggregates : std::false_type {};
template <class F>
struct aggregates<F, std::void_t<decltype(&F::aggregate)>> : std::true_type {};

/// The functions of C around one of class F.
template <class F>
struct shell {
    using base = server_function<typename F::value_type>;
    using arrays = typename base::arrays;
    using const_arrays = typename base::const_arrays;

    static void *create(void *, const char *params, kr_reply *reply)
    {
        F *made = nullptr;
        caught(reply, [&] { made = new F(std::string(params)); });
        return made;
    }
    static void destroy(void *, void *state) { delete static_cast<F *>(state); }
    static std::int32_t
    update(void *, void *state, void *const *columns, const void *const *parts, std::size_t values, kr_reply *reply)
    {
        return caught(reply, [&] { static_cast<F *>(state)->update(arrays(columns, values), const_arrays(parts, values)); });
    }
    static std::int32_t
    aggregate(void *, void *state, void *const *sums, const void *const *parts, std::size_t values, kr_reply *reply)
    {
        return caught(reply, [&] { static_cast<F *>(state)->aggregate(arrays(sums, values), const_arrays(parts, values)); });
    }
    static std::int32_t
    call(void *, void *state, const char *verb, const void *arguments, std::size_t bytes, kr_reply *reply)
    {
        return caught(reply, [&] {
            std::string given(static_cast<const char *>(arguments), bytes);
            std::string answer = static_cast<F *>(state)->call(verb, given);
            kr_reply_write(reply, answer.data(), answer.size());
        });
    }
};

} // namespace detail

/// A set of server functions, the built-in ones included, and of filters.
class functions {
public:
    static result<functions> make()
    {
        kr_functions *made = nullptr;
        kr_status status = kr_functions_new(&made);
        if (status != KR_OK)
            return detail::last(status);
        return functions(made);
    }
    /// Adds class F, which is made from the table's parameters as JSON, under this name.
    template <class F>
    outcome add(const char *name)
    {
        using shell = detail::shell<F>;
        const function_shape shape = detail::shape_of<F>::get();
        if (!shape.initial.empty() && shape.initial.size() != 1 + shape.state_columns)
            return error(KR_INVALID, "function_shape.initial: expected 1 + state_columns numbers");
        if (!shape.neutral.empty() && shape.neutral.size() != shape.push_parts)
            return error(KR_INVALID, "function_shape.neutral: expected push_parts numbers");
        kr_function function{};
        function.size = sizeof function;
        function.name = name;
        function.value_type = detail::code<typename F::value_type>::value;
        function.push_parts = shape.push_parts;
        function.state_columns = shape.state_columns;
        function.apply_each = shape.apply_each;
        function.initial = shape.initial.empty() ? nullptr : shape.initial.data();
        function.neutral = shape.neutral.empty() ? nullptr : shape.neutral.data();
        function.create = &shell::create;
        function.destroy = &shell::destroy;
        function.update = &shell::update;
        function.call = &shell::call;
        if constexpr (detail::aggregates<F>::value)
            function.aggregate = &shell::aggregate;
        return detail::done(kr_functions_add(handle_.get(), &function));
    }
    /// Adds filter F (a keyrange::filter), which is made from the parameter in the chain, under this name.
    template <class F>
    outcome add_filter(const char *name)
    {
        const kr_filter made = detail::filter_of<F>(name);
        return detail::done(kr_functions_add_filter(handle_.get(), &made));
    }
    kr_functions *raw() const noexcept { return handle_.get(); }

private:
    struct end {
        void operator()(kr_functions *dropped) const { kr_functions_free(dropped); }
    };
    explicit functions(kr_functions *handle) : handle_(handle) {}
    std::unique_ptr<kr_functions, end> handle_;
};

} // namespace keyrange

#endif
