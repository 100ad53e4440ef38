// keyrange_clocked.hpp: clocked tables in C++17, over keyrange.h: reads that are at most so many clocks behind.
//
//     keyrange::table<float> table = worker.create_table<float>(0, "add", KR_CLOCKED).value();
//     auto rows = keyrange::clocked<float>::open(worker, table, keyrange::clocked_config(2)).value();    // SSP, staleness 2
//     for (int clock = 0; clock < 100; clock++) {
//         rows.fetch(keys).value();
//         for (std::uint64_t key : keys) {
//             rows.get(key, row).value();
//             rows.inc(key, step_at(row)).value();
//         }
//         rows.close().value();
//     }
//     rows.flush().value();
//
#ifndef KEYRANGE_CLOCKED_HPP
#define KEYRANGE_CLOCKED_HPP

#include "keyrange.hpp"

namespace keyrange {

/// A configuration with defaults for the rest: `staleness` clocks (0 is BSP, KR_UNBOUNDED asynchronous), rows asked for (SSP) or
/// sent unasked (`eager`, ESSP).
inline kr_clocked_config clocked_config(std::uint64_t staleness, bool eager = false)
{
    kr_clocked_config made;
    kr_clocked_config_init(&made);
    made.staleness = staleness;
    made.eager = eager;
    return made;
}

/// A KR_CLOCKED table as one worker uses it, for the thread that uses the worker. It may outlive the worker, but be used no more then.
template <class V>
class clocked {
public:
    /// Opens a table at clock 0, once per worker and table; see kr_clocked_open().
    static result<clocked> open(worker &of, table<V> which, const kr_clocked_config &config)
    {
        if (which.raw.value_type != detail::code<V>::value)
            return error(KR_INVALID, "a clocked table is opened with the type of its values");
        kr_clocked *made = nullptr;
        kr_status status = kr_clocked_open(of.raw(), which.raw, &config, &made);
        if (status != KR_OK)
            return detail::last(status);
        return clocked(of.raw(), made, which.raw.width);
    }

    /// Makes rows readable at this clock. On KR_TIMED_OUT, whose message names the workers that are behind, fetch again.
    outcome fetch(view<const std::uint64_t> keys, milliseconds time = patience)
    {
        return detail::done(kr_clocked_fetch(worker_, raw(), keys.data(), keys.size(), detail::limit(time)));
    }
    /// Copies a fetched row to `row`, which has as many values as the table is wide.
    outcome get(std::uint64_t key, view<V> row)
    {
        if (row.size() != width_)
            return wrong("a row", width_, row.size());
        return detail::done(kr_clocked_get(worker_, raw(), key, row.data()));
    }
    /// The same as a new vector.
    result<std::vector<V>> get(std::uint64_t key)
    {
        std::vector<V> row(width_);
        outcome done = get(key, row);
        if (!done)
            return error(done.status(), done.message());
        return row;
    }
    /// Adds to the row of a key: for this worker at once, for all when the clock is closed.
    outcome inc(std::uint64_t key, view<const V> delta)
    {
        if (delta.size() != width_)
            return wrong("an increment", width_, delta.size());
        return detail::done(kr_clocked_inc(worker_, raw(), key, delta.data()));
    }
    /// Adds a row of `deltas` to the row of each of `keys`.
    outcome batch_inc(view<const std::uint64_t> keys, view<const V> deltas)
    {
        if (deltas.size() != keys.size() * width_)
            return wrong("increments", keys.size() * width_, deltas.size());
        return detail::done(kr_clocked_batch_inc(worker_, raw(), keys.data(), keys.size(), deltas.data()));
    }
    /// Closes the clock. On KR_TIMED_OUT it is closed nevertheless.
    outcome close(milliseconds time = patience) { return detail::done(kr_clocked_close(worker_, raw(), detail::limit(time))); }
    outcome poll() { return detail::done(kr_clocked_poll(worker_, raw())); }
    /// Waits until all closed clocks have arrived at the servers.
    outcome flush(milliseconds time = patience) { return detail::done(kr_clocked_flush(worker_, raw(), detail::limit(time))); }

    /// How many clocks this worker has closed.
    result<std::uint64_t> clock() const
    {
        std::uint64_t clock = 0;
        kr_status status = kr_clocked_clock(worker_, raw(), &clock);
        if (status != KR_OK)
            return detail::last(status);
        return clock;
    }
    result<kr_clocked_stats> stats() const
    {
        kr_clocked_stats told{};
        told.size = sizeof told;
        kr_status status = kr_clocked_describe(worker_, raw(), &told);
        if (status != KR_OK)
            return detail::last(status);
        return told;
    }
    /// How many rows were read that were 0, 1, ... clocks behind.
    result<std::vector<std::uint64_t>> reads() const
    {
        result<kr_clocked_stats> told = stats();
        if (!told)
            return error(told.status(), told.message());
        std::vector<std::uint64_t> counts(static_cast<std::size_t>(std::move(told).value().most_behind) + 1);
        kr_status status = kr_clocked_reads(worker_, raw(), counts.data(), counts.size());
        if (status != KR_OK)
            return detail::last(status);
        return counts;
    }
    kr_clocked *raw() const noexcept { return handle_.get(); }

private:
    struct end {
        void operator()(kr_clocked *dropped) const { kr_clocked_free(dropped); }
    };
    clocked(kr_worker *worker, kr_clocked *handle, std::size_t width) : worker_(worker), width_(width), handle_(handle) {}

    static error wrong(const char *what, std::size_t expected, std::size_t got)
    {
        return error(KR_INVALID, std::string(what) + " of a clocked table: expected " + std::to_string(expected) + " values, got " +
                                     std::to_string(got));
    }

    kr_worker *worker_;
    std::size_t width_;
    std::unique_ptr<kr_clocked, end> handle_;
};

} // namespace keyrange

#endif
