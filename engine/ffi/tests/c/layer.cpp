// The C++ layer: objects, views, results with and without exceptions, callbacks.
#include <array>
#include <cstdio>
#include <thread>

#include "keyrange.hpp"
#include "keyrange.hpp"

namespace kr = keyrange;

#define EXPECT(condition)                                                        \
    do {                                                                         \
        if (!(condition)) {                                                      \
            std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            std::exit(1);                                                        \
        }                                                                        \
    } while (0)

static void work(kr::worker worker)
{
    const std::vector<std::uint64_t> ids{3, 17, std::uint64_t(1) << 40, UINT64_MAX};
    kr::keys keys = kr::keys::make(ids).value();
    kr::table<double> sums = worker.create_table<double>(1, "add", KR_ALL_WORKERS).value();
    std::array<double, 4> gradient{1, 2, 3, 4};
    std::vector<double> got(4);
    kr::options at;
    for (at.time = 1; at.time <= 3; at.time++) {
        kr::task task = worker.push_pull<double>(sums, keys, gradient, got, at).value();
        task.wait().value();
        EXPECT(got[3] == 8.0 * double(at.time));
    }
    kr::table<float> weights = worker.create_table<float>(2, "add").value();
    kr::view<float> lent = worker.lend<float>(1000).value();
    for (std::size_t i = 0; i < lent.size(); i++)
        lent.data()[i] = float(i);
    int calls = 0;
    kr::options how;
    how.callback = [&calls](kr_status status, const char *) { calls += status == KR_OK; };
    kr::keys range = kr::keys::range(0, 999);
    worker.push<float>(weights, range, kr::view<const float>(lent.data(), 1000), how).value();
    worker.push<float>(weights, range, {kr::view<const float>(lent.data(), 1000)}).value();
    worker.wait_below(1).value();
    EXPECT(calls == 1);
    worker.barrier("pushed").value();
    std::vector<float> all(1000);
    worker.pull<float>(weights, range, all).value().wait().value();
    EXPECT(all[999] == 999.0f * 2 * float(worker.info().workers));
    worker.barrier("pulled").value();
    const float one = 1;
    kr::task single = worker.push_one<float>(weights, 5, kr::view<const float>(&one, 1)).value();
    while (!single.test().value()) {
    }

    how.callback = [](kr_status, const char *) { throw std::runtime_error("on purpose"); };
    worker.push_one<float>(weights, 5, kr::view<const float>(&one, 1)).value();
    worker.pull<float>(weights, range, all, how).value();
    kr::outcome threw = worker.wait_below(1);
    EXPECT(threw.status() == KR_MISUSE && threw.message() == "a callback threw: on purpose");
    worker.wait_below(1).value();

    kr::result<kr::task> bad = worker.pull<float>(weights, range, kr::view<float>(all.data(), 7));
    EXPECT(!bad && bad.status() == KR_INVALID && bad.message().find("1000") != std::string::npos);
    bool thrown = false;
    try {
        const std::uint64_t falling[] = {2, 1};
        (void)kr::keys::make(kr::view<const std::uint64_t>(falling, 2)).value();
    } catch (const kr::error &failure) {
        thrown = failure.status() == KR_INVALID;
    }
    EXPECT(thrown);
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

    kr::cluster dropped = kr::cluster::start(kr::job(1, 1)).value();
    {
        kr::worker gone = dropped.take_worker(0).value();
    }
    kr::outcome end = dropped.join();
    EXPECT(end.status() == KR_ENDED && end.message().find("destroyed") != std::string::npos);
    std::puts("layer: all as expected");
}
