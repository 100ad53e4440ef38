// Clocked tables in the C++ layer: bounds, own increments, results that throw or not, a late worker's name.
#include <array>
#include <cstdio>
#include <thread>

#include "keyrange_clocked.hpp"
#include "keyrange_clocked.hpp"

namespace kr = keyrange;

#define EXPECT(condition)                                                        \
    do {                                                                         \
        if (!(condition)) {                                                      \
            std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            std::exit(1);                                                        \
        }                                                                        \
    } while (0)

constexpr std::uint64_t clocks = 20;

template <class V>
static void count(kr::worker &worker, std::uint16_t id, std::uint64_t staleness, bool eager)
{
    const std::vector<std::uint64_t> keys{UINT64_MAX, 3, std::uint64_t(1) << 40, 17};
    kr::table<V> table = worker.create_table<V>(id, "add", KR_CLOCKED).value();
    auto rows = kr::clocked<V>::open(worker, table, kr::clocked_config(staleness, eager)).value();
    const std::vector<V> ones(keys.size(), 1);
    std::array<V, 1> row;
    for (std::uint64_t clock = 0; clock < clocks; clock++) {
        EXPECT(rows.clock().value() == clock);
        rows.fetch(keys).value();
        for (std::uint64_t key : keys) {
            rows.get(key, row).value();
            const std::uint64_t must = clock > staleness ? clock - staleness : 0;
            EXPECT(row[0] >= V(clock + must) && row[0] <= V(2 * clock + staleness + 1));
        }
        rows.batch_inc(keys, ones).value();
        rows.inc(keys[0], kr::view<const V>(ones.data(), 1)).value();
        rows.inc(keys[0], std::vector<V>{-1}).value();
        EXPECT(rows.get(keys[3]).value().at(0) == row[0] + 1);
        rows.poll().value();
        rows.close().value();
    }
    rows.flush().value();
    const kr_clocked_stats stats = rows.stats().value();
    std::uint64_t reads = 0;
    for (std::uint64_t of : rows.reads().value())
        reads += of;
    EXPECT(stats.clock == clocks && stats.reads == 5 * clocks && reads == stats.reads);
    EXPECT(stats.most_behind <= staleness && (stats.rows_pushed > 0) == eager);
    worker.barrier("counted").value();
}

// Worker 1 does not close its clock until worker 0 has given up.
static void give_up(kr::worker &worker)
{
    kr::table<float> table = worker.create_table<float>(9, "add", KR_CLOCKED).value();
    auto rows = kr::clocked<float>::open(worker, table, kr::clocked_config(0)).value();
    const std::vector<std::uint64_t> keys{5};
    if (worker.info().rank == 0) {
        rows.close().value();
        kr::outcome late = rows.fetch(keys, kr::milliseconds(50));
        EXPECT(late.status() == KR_TIMED_OUT && late.message().find("worker 1 (at 0)") != std::string::npos);
        kr::result<std::vector<float>> none = rows.get(5);
        EXPECT(none.status() == KR_INVALID && none.message().find("not fetched") != std::string::npos);
    }
    worker.barrier("late").value();
    if (worker.info().rank == 1)
        rows.close().value();
    rows.fetch(keys).value();
    kr::outcome wide = rows.inc(5, std::vector<float>{1, 2});
    EXPECT(wide.status() == KR_INVALID && wide.message().find("expected 1 values, got 2") != std::string::npos);
    bool thrown = false;
    try {
        kr::clocked<float>::open(worker, table, kr::clocked_config(1)).value();
    } catch (const kr::error &failure) {
        thrown = failure.status() == KR_INVALID;
    }
    EXPECT(thrown);
    kr::clocked<float> moved = std::move(rows);
    EXPECT(moved.get(5).value().at(0) == 0);
    moved.flush().value();
}

static void work(kr::worker worker)
{
    count<float>(worker, 1, 0, false);
    count<double>(worker, 2, 0, true);
    count<double>(worker, 3, 2, false);
    count<float>(worker, 4, 2, true);
    give_up(worker);
    worker.finish().value();
}

int main()
{
    kr::cluster cluster = kr::cluster::start(kr::job(2, 2)).value();
    std::vector<std::thread> threads;
    for (std::uint32_t rank = 0; rank < 2; rank++)
        threads.emplace_back(work, cluster.take_worker(rank).value());
    for (std::thread &thread : threads)
        thread.join();
    cluster.join().value();
    std::puts("clocked: all as expected");
}
