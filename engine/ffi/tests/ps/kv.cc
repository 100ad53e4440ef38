// The default handle: keys over the whole key space, pushed again and again by all workers; pulls, push-pulls, misuse.
#include <cmath>
#include <cstdio>

#include "throws.h"
#include "ps/ps.h"

using namespace ps;

static void StartServer() {
    if (!IsServer()) return;
    auto server = new KVServer<float>(0);
    server->set_request_handle(KVServerDefaultHandle<float>());
    auto doubles = new KVServer<double>(1);
    KVServer<double>::ReqHandle handle = KVServerDefaultHandle<double>();
    doubles->set_request_handle(handle);
    auto whole = new KVServer<int>(2);
    whole->set_request_handle(KVServerDefaultHandle<int>());
    RegisterExitCallback([=]() {
        delete server;
        delete doubles;
        delete whole;
    });
}

static void Together() { Postoffice::Get()->Barrier(0, kWorkerGroup); }

static void Repeated(KVWorker<float> &kv) {
    const int kKeys = 10000, kRepeat = 50;
    std::vector<Key> keys(kKeys);
    std::vector<float> vals(kKeys), got;
    for (int at = 0; at < kKeys; ++at) {
        keys[at] = kMaxKey / kKeys * at + MyRank();
        vals[at] = static_cast<float>(at % 1000);
    }
    keys.back() = kMaxKey - MyRank();
    std::vector<int> open;
    for (int round = 0; round < kRepeat; ++round) {
        open.push_back(kv.Push(keys, vals));
        if (round > 10) kv.Wait(open[open.size() - 10]);
    }
    for (int timestamp : open) kv.Wait(timestamp);
    kv.Wait(kv.Pull(keys, &got));
    CHECK_EQ(got.size(), keys.size());
    for (int at = 0; at < kKeys; ++at) CHECK_EQ(got[at], vals[at] * kRepeat);
}

static void Shared(KVWorker<float> &kv) {
    SArray<Key> keys = {Key(5), Key(1000), Key(1) << 40, kMaxKey / 2, kMaxKey / 2 + 7, kMaxKey - 100};
    SArray<float> ones(keys.size(), 1), got;
    Together();
    kv.Wait(kv.ZPush(keys, ones));
    Together();
    SArray<int> lens;
    kv.Wait(kv.ZPull(keys, &got, &lens));
    for (float value : got) CHECK_EQ(value, NumWorkers());
    CHECK_EQ(lens.size(), keys.size());
    Together();
    SArray<float> outs(keys.size());
    kv.Wait(kv.ZPushPull(keys, ones, &outs));
    for (float value : outs) CHECK(value > NumWorkers() && value <= 2 * NumWorkers()) << value;
    // One key, many in flight, and nobody waits for most of them.
    SArray<Key> one = {Key(77 + 2 * MyRank())};
    int last = 0;
    for (int at = 0; at < 5000; ++at) last = kv.ZPush(one, SArray<float>(1, 1.f));
    kv.Wait(last);
    SArray<float> sum;
    kv.Wait(kv.ZPull(one, &sum));
    CHECK_EQ(sum[0], 5000);
    // Never pushed.
    std::vector<float> nothing;
    kv.Wait(kv.Pull({123456789}, &nothing));
    CHECK_EQ(nothing[0], 0);
}

static void Callbacks(KVWorker<float> &kv) {
    std::atomic<int> called{0};
    const int first = kv.Push({}, {}, {}, 0, [&] { ++called; });
    CHECK_EQ(called, 1);
    kv.Wait(first);
    for (int at = 0; at < 20; ++at) {
        int timestamp = -1;
        timestamp = kv.Push({900}, {1}, {}, 0, [&] { ++called; });
        CHECK_EQ(timestamp, first + 1 + at);
        kv.Wait(timestamp);
        CHECK_EQ(called, 2 + at);
    }
    // Nobody waits, and one request follows from the other's callback.
    std::atomic<bool> done{false};
    std::vector<float> got;
    kv.Push({901, 902}, {1, 1}, {}, 0, [&] { kv.Pull({901, 902}, &got, nullptr, 0, [&] { done = true; }); });
    while (!done) std::this_thread::yield();
    CHECK_GE(got[1], 1);
    int own = 0;
    std::atomic<bool> refused{false}, known{false};
    own = kv.Push({903}, {1}, {}, 0, [&] {
        while (!known) std::this_thread::yield();
        refused = throws([&] { kv.Wait(own); });
    });
    known = true;
    kv.Wait(own);
    CHECK(refused);
}

static void Misuse(KVWorker<float> &kv) {
    std::vector<float> two(2), wrong(5);
    CHECK(throws([&] { kv.Push({3, 2}, {1, 1}); }));
    CHECK(throws([&] { kv.Push({2, 2}, {1, 1}); }));
    CHECK(throws([&] { kv.Push({2, 3}, {1, 1, 1}); }));
    CHECK(throws([&] { kv.Push({2, 3}, {1, 1}, {1, 1}); }));
    CHECK(throws([&] { kv.Pull({2, 3}, &wrong); }));
    CHECK(throws([&] { kv.Wait(1 << 30); }));
    CHECK(throws([&] { KVWorker<double> other(0, 7); other.Push({1}, {1}); }));
    kv.Wait(kv.Pull({2, 3}, &two));
    CHECK(throws([&] { Postoffice::Get()->Barrier(0, kServerGroup); }));
}

static void Threads(KVWorker<float> &kv) {
    std::vector<std::thread> threads;
    for (int thread = 0; thread < 4; ++thread) {
        threads.emplace_back([&kv, thread] {
            const Key base = Key(1) << 50 | Key(MyRank()) << 40 | Key(thread) << 30;
            std::vector<Key> keys = {base, base + 1, base + 2};
            std::vector<float> got;
            for (int at = 0; at < 200; ++at) kv.Wait(kv.Push(keys, {1, 2, 3}));
            kv.Wait(kv.Pull(keys, &got));
            CHECK_EQ(got[2], 600);
        });
    }
    for (std::thread &thread : threads) thread.join();
}

template <typename Val>
static void Sums(int app) {
    KVWorker<Val> kv(app, 0);
    std::vector<Val> got;
    Together();
    kv.Wait(kv.Push({1, kMaxKey - 1, kMaxKey}, {1, 2, 3}));
    Together();
    kv.Wait(kv.Pull({1, kMaxKey - 1, kMaxKey}, &got));
    for (int at = 0; at < 3; ++at) CHECK_EQ(got[at], Val((at + 1) * NumWorkers()));
}

int main() {
    Start(0);
    StartServer();
    if (IsWorker()) {
        KVWorker<float> kv(0, 0);
        CHECK_EQ(kv.get_customer()->customer_id(), 0);
        Repeated(kv);
        Shared(kv);
        Callbacks(kv);
        Misuse(kv);
        Threads(kv);
        Sums<double>(1);
        Sums<int>(2);
    }
    Finalize(0, true);
    std::puts("kv: all as expected");
    return 0;
}
