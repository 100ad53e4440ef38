// keyrange.hpp: Keyrange from C++17 on, over keyrange.h (read its first page: who owns what, which thread may call).
//
// Handles end with their objects. Calls answer a result: ask it (if (result) ...), or take its value(), which throws keyrange::error.
// Arrays are views (a pointer and a length), made from anything that has data() and size(): std::vector, std::array, std::span.
//
//     keyrange::cluster cluster = keyrange::cluster::start(keyrange::job(1, 1)).value();
//     keyrange::worker worker = cluster.take_worker(0).value();
//     keyrange::table<float> weights = worker.create_table<float>(0, "add").value();
//     keyrange::keys keys = keyrange::keys::make(ids).value();
//     worker.push(weights, keys, gradient).value().wait().value();
//
#ifndef KEYRANGE_HPP
#define KEYRANGE_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "keyrange_result.hpp"

namespace keyrange {

namespace detail {

template <class V>
struct code;
template <>
struct code<float> {
    static constexpr std::uint32_t value = KR_F32;
};
template <>
struct code<double> {
    static constexpr std::uint32_t value = KR_F64;
};

} // namespace detail

/// Values somewhere: a pointer and a length.
template <class V>
class view {
public:
    view(V *data, std::size_t size) : data_(data), size_(size) {}
    template <class C, class = decltype(std::declval<C &>().data()), class = decltype(std::declval<C &>().size())>
    view(C &&values) : data_(values.data()), size_(values.size())
    {
    }
    V *data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }

private:
    V *data_;
    std::size_t size_;
};

/// A list of rising keys, checked and copied once; copies of this object share it. Use it again for the same keys.
class keys {
public:
    static result<keys> make(view<const std::uint64_t> list)
    {
        kr_keys *made = nullptr;
        kr_status status = kr_keys_new(list.data(), list.size(), &made);
        if (status != KR_OK)
            return detail::last(status);
        return keys(made);
    }
    /// All keys from `first` to `last`, both included.
    static keys range(std::uint64_t first, std::uint64_t last)
    {
        keys made(nullptr);
        made.first_ = first;
        made.last_ = last;
        return made;
    }
    kr_select select() const noexcept { return kr_select{list_.get(), first_, last_}; }

private:
    explicit keys(kr_keys *list) : list_(list, [](kr_keys *freed) { kr_keys_free(freed); }) {}
    std::shared_ptr<kr_keys> list_;
    std::uint64_t first_ = 0, last_ = 0;
};

/// A table with values of type V.
template <class V>
struct table {
    kr_table raw;
};

/// A request under way; wait for it, or keep its arrays until its worker has been waited for. Dropping it lets it go on.
class task {
public:
    task(kr_worker *worker, kr_task id) : worker_(worker), id_(id) {}
    outcome wait(milliseconds time = patience) { return detail::done(kr_wait(worker_, id_, detail::limit(time))); }
    /// Whether it has ended; the error if it ended badly. Told once.
    result<bool> test()
    {
        kr_status status = kr_test(worker_, id_);
        if (status == KR_OK || status == KR_PENDING)
            return status == KR_OK;
        return detail::last(status);
    }
    outcome cancel() { return detail::done(kr_cancel(worker_, id_)); }
    kr_task id() const noexcept { return id_; }

private:
    kr_worker *worker_;
    kr_task id_;
};

/// How a request is to be run.
struct options {
    std::uint64_t time = 0;
    std::vector<kr_task> after;
    milliseconds deadline{0};
    bool after_time = false;
    /// What this request pushes or pulls passes these; a keyrange::chain (keyrange_filter.hpp) can stand for one.
    std::shared_ptr<kr_chain> push_chain, pull_chain;
    /// Called with the end, inside a later call with the worker and on its thread; it must not use the worker. What it throws
    /// is the KR_MISUSE of the worker's next poll(), wait_below() or barrier().
    std::function<void(kr_status, const char *)> callback;
};

/// One worker of a job, for one thread at a time.
class worker {
public:
    /// Joins a job; see kr_worker_connect().
    static result<worker> connect(const kr_member &member)
    {
        kr_worker *made = nullptr;
        kr_status status = kr_abi_check(KR_ABI_VERSION);
        if (status == KR_OK)
            status = kr_worker_connect(&member, &made);
        if (status != KR_OK)
            return detail::last(status);
        return worker(made);
    }

    kr_worker_info info() const
    {
        kr_worker_info told{};
        told.size = sizeof told;
        kr_worker_describe(raw(), &told);
        return told;
    }

    /// The table as described; its value type is V's.
    template <class V>
    result<table<V>> create_table(kr_table_spec spec, milliseconds time = patience)
    {
        table<V> made{};
        spec.value_type = detail::code<V>::value;
        kr_status status = kr_table_create(raw(), &spec, detail::limit(time), &made.raw);
        if (status != KR_OK)
            return detail::last(status);
        return made;
    }
    /// A sparse table with one value per key.
    template <class V>
    result<table<V>> create_table(std::uint16_t id, const char *function, std::uint32_t aggregation = KR_IMMEDIATE)
    {
        kr_table_spec spec;
        kr_table_spec_init(&spec);
        spec.id = id;
        spec.function = function;
        spec.aggregation = aggregation;
        return create_table<V>(spec);
    }

    /// Begins a push; the values are used until the task has ended.
    template <class V>
    result<task> push(table<V> to, const keys &which, view<const V> values, const options &how = {})
    {
        const void *part = values.data();
        return begin(how, [&](const kr_options *given, kr_task *id) {
            return kr_push(raw(), to.raw, which.select(), &part, 1, values.size(), given, id);
        });
    }
    /// Begins a push of several arrays, all of the same length, for functions that take them.
    template <class V>
    result<task> push(table<V> to, const keys &which, const std::vector<view<const V>> &parts, const options &how = {})
    {
        std::vector<const void *> pointers;
        if (!same_length(parts, &pointers))
            return error(KR_INVALID, "the arrays of a push have one length");
        std::size_t values = parts.empty() ? 0 : parts[0].size();
        return begin(how, [&](const kr_options *given, kr_task *id) {
            return kr_push(raw(), to.raw, which.select(), pointers.data(), pointers.size(), values, given, id);
        });
    }
    /// Begins a pull into `into`, which is used until the task has ended.
    template <class V>
    result<task> pull(table<V> from, const keys &which, view<V> into, const options &how = {})
    {
        return begin(how, [&](const kr_options *given, kr_task *id) {
            return kr_pull(raw(), from.raw, which.select(), into.data(), into.size(), given, id);
        });
    }
    /// Begins a push that is answered with the new values.
    template <class V>
    result<task>
    push_pull(table<V> with, const keys &which, view<const V> values, view<V> into, const options &how = {})
    {
        const void *part = values.data();
        if (values.size() != into.size())
            return error(KR_INVALID, "what is pushed and what is pulled have one length");
        return begin(how, [&](const kr_options *given, kr_task *id) {
            return kr_push_pull(raw(), with.raw, which.select(), &part, 1, into.data(), into.size(), given, id);
        });
    }
    /// The same for functions that take several arrays.
    template <class V>
    result<task> push_pull(table<V> with, const keys &which, const std::vector<view<const V>> &parts, view<V> into,
                           const options &how = {})
    {
        std::vector<const void *> pointers;
        if (!same_length(parts, &pointers) || parts.empty() || parts[0].size() != into.size())
            return error(KR_INVALID, "what is pushed and what is pulled have one length");
        return begin(how, [&](const kr_options *given, kr_task *id) {
            return kr_push_pull(raw(), with.raw, which.select(), pointers.data(), pointers.size(), into.data(), into.size(), given, id);
        });
    }
    /// Pushes the row of one key; it is copied at once.
    template <class V>
    result<task> push_one(table<V> to, std::uint64_t key, view<const V> row, milliseconds time = patience)
    {
        if (row.size() != to.raw.width)
            return error(KR_INVALID, "a row has as many values as the table is wide");
        kr_task id = 0;
        kr_status status = kr_push_one(raw(), to.raw, key, row.data(), detail::limit(time), &id);
        if (status != KR_OK)
            return detail::last(status);
        return task(raw(), id);
    }

    /// An array that servers on this host read where it lies. It must not outlive the worker.
    template <class V>
    result<view<V>> lend(std::size_t count)
    {
        void *memory = nullptr;
        kr_status status = kr_alloc(raw(), count * sizeof(V), &memory);
        if (status != KR_OK)
            return detail::last(status);
        return view<V>(static_cast<V *>(memory), count);
    }
    outcome poll() { return told(kr_poll(raw())); }
    outcome wait_below(std::size_t open, milliseconds time = patience)
    {
        return told(kr_wait_below(raw(), open, detail::limit(time)));
    }
    outcome barrier(const char *name, milliseconds time = patience)
    {
        return told(kr_barrier(raw(), name, detail::limit(time)));
    }
    /// Ends its part in good order. A worker that is destroyed without has failed, and the job ends.
    outcome finish(milliseconds time = patience) { return detail::done(kr_worker_finish(handle_.release(), detail::limit(time))); }
    kr_worker *raw() const noexcept { return handle_.get(); }

private:
    friend class cluster;
    struct fail {
        void operator()(kr_worker *dropped) const { kr_worker_fail(dropped, "its object was destroyed before finish()"); }
    };
    explicit worker(kr_worker *handle) : handle_(handle), thrown_(std::make_shared<std::string>()) {}

    /// A callback under way, and where what it throws is kept.
    struct listener {
        std::function<void(kr_status, const char *)> callback;
        std::shared_ptr<std::string> thrown;

        static void hear(void *context, kr_task, kr_status status, const char *message)
        {
            std::unique_ptr<listener> mine(static_cast<listener *>(context));
#if defined(__cpp_exceptions)
            try {
                mine->callback(status, message);
            } catch (const std::exception &failure) {
                *mine->thrown = std::string("a callback threw: ") + failure.what();
            } catch (...) {
                *mine->thrown = "a callback threw what is no std::exception";
            }
#else
            mine->callback(status, message);
#endif
        }
    };

    template <class V>
    static bool same_length(const std::vector<view<const V>> &parts, std::vector<const void *> *pointers)
    {
        for (const view<const V> &part : parts)
            pointers->push_back(part.data());
        return std::all_of(parts.begin(), parts.end(), [&](const view<const V> &part) { return part.size() == parts[0].size(); });
    }

    outcome told(kr_status status)
    {
        if (thrown_->empty())
            return detail::done(status);
        return error(KR_MISUSE, std::exchange(*thrown_, std::string()));
    }

    template <class Call>
    result<task> begin(const options &how, Call call)
    {
        kr_options given{};
        given.size = sizeof given;
        given.time = how.time;
        given.after = how.after.data();
        given.after_count = how.after.size();
        given.deadline_ms = detail::limit(how.deadline);
        given.after_time = how.after_time;
        given.push_chain = how.push_chain.get();
        given.pull_chain = how.pull_chain.get();
        std::unique_ptr<listener> callback;
        if (how.callback) {
            callback = std::make_unique<listener>(listener{how.callback, thrown_});
            given.context = callback.get();
            given.callback = &listener::hear;
        }
        kr_task id = 0;
        kr_status status = call(&given, &id);
        if (status != KR_OK)
            return detail::last(status);
        callback.release();
        return task(raw(), id);
    }

    std::unique_ptr<kr_worker, fail> handle_;
    std::shared_ptr<std::string> thrown_;
};

/// The size of a job with defaults for the rest.
inline kr_job job(std::uint32_t servers, std::uint32_t workers)
{
    kr_job made;
    kr_job_init(&made, servers, workers);
    return made;
}

/// A whole job in this process.
class cluster {
public:
    static result<cluster> start(const kr_job &job, kr_functions *functions = nullptr)
    {
        kr_cluster *made = nullptr;
        kr_status status = kr_abi_check(KR_ABI_VERSION);
        if (status == KR_OK)
            status = kr_cluster_start(&job, functions, &made);
        if (status != KR_OK)
            return detail::last(status);
        return cluster(made);
    }
    result<worker> take_worker(std::uint32_t rank)
    {
        kr_worker *taken = nullptr;
        kr_status status = kr_cluster_worker(handle_.get(), rank, &taken);
        if (status != KR_OK)
            return detail::last(status);
        return worker(taken);
    }
    outcome abort(const char *reason) { return detail::done(kr_cluster_abort(handle_.get(), reason)); }
    /// Waits until all workers have finished; how the job ended.
    outcome join() { return detail::done(kr_cluster_join(handle_.release())); }

private:
    struct end {
        void operator()(kr_cluster *dropped) const
        {
            kr_cluster_abort(dropped, "its object was destroyed before join()");
            kr_cluster_join(dropped);
        }
    };
    explicit cluster(kr_cluster *handle) : handle_(handle) {}
    std::unique_ptr<kr_cluster, end> handle_;
};

} // namespace keyrange

#endif
