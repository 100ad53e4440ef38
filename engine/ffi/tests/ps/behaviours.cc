// What programs rely on, or would in a ps-lite without its faults: one function for each numbered behaviour that is not all of another
// test program (SArray: arrays.cc; two customers: two_customers.cc; missing variables and lost servers: the test itself).
#include <cstdio>

#include "ps/ps.h"
#include "throws.h"

using namespace ps;

// Keeps whole requests beyond its call, and gives them back late and out of order, from another thread. The segments of one request
// share its memory.
struct Keeper {
    std::mutex mutex;
    std::vector<std::pair<KVMeta, KVPairs<float>>> held;
    std::vector<int> order;

    void handle(const KVMeta &meta, const KVPairs<float> &data, KVServer<float> *server) {
        std::lock_guard<std::mutex> lock(mutex);
        if (meta.push) order.push_back(meta.cmd);
        if (meta.cmd < 8) {
            held.emplace_back(meta, data);
            if (held.size() % 8 == 0) std::thread([this, server] { answer(server); }).detach();
            return;
        }
        KVPairs<float> found;
        found.keys = data.keys;
        if (meta.pull) found.vals.CopyFrom(order.begin(), order.end());
        if (meta.pull) order.clear();
        server->Response(meta, found);
    }
    // The last eight, newest first; a pull gets the values that the same request pushed.
    void answer(KVServer<float> *server) {
        std::vector<std::pair<KVMeta, KVPairs<float>>> due;
        {
            std::lock_guard<std::mutex> lock(mutex);
            due.assign(held.end() - 8, held.end());
        }
        for (size_t at = due.size(); at-- > 0;) {
            KVPairs<float> same;
            if (due[at].first.pull) same = due[at].second;
            server->Response(due[at].first, same);
        }
    }
};

// 1, 8: arrays and metas kept beyond the handler stay as they came; answers come late, out of order, from another thread.
static void arrays_outlive_their_handler(KVWorker<float> &kv) {
    std::vector<SArray<float>> sent, got(8);
    std::vector<int> open;
    for (int at = 0; at < 8; ++at) {
        sent.emplace_back(size_t(50000 + at), float(at + 1));
        SArray<Key> key = {Key(at)};
        open.push_back(kv.ZPushPull(key, sent.back(), &got[size_t(at)], nullptr, at));
    }
    for (int timestamp : open) kv.Wait(timestamp);
    for (size_t at = 0; at < 8; ++at) {
        CHECK_EQ(got[at].size(), sent[at].size());
        CHECK(std::equal(sent[at].begin(), sent[at].end(), got[at].begin()));
    }
}

// 3, 4: timestamps count from 0; an empty request ends at once, with its callback.
static void timestamps_count_from_zero() {
    KVWorker<float> kv(3, 0);
    int called = 0;
    for (int at = 0; at < 5; ++at) {
        CHECK_EQ(kv.Push({}, {}, {}, 0, [&] { ++called; }), at);
        CHECK_EQ(called, at + 1);
        kv.Wait(at);
    }
}

// 6: ids, groups, and a request to everybody.
static void ids_and_groups() {
    Postoffice *office = Postoffice::Get();
    CHECK_EQ(Postoffice::ServerRankToID(1), 10);
    CHECK_EQ(Postoffice::WorkerRankToID(1), 11);
    CHECK_EQ(Postoffice::IDtoRank(11), 1);
    CHECK_EQ(int(office->GetNodeIDs(kScheduler + kServerGroup + kWorkerGroup).size()), 1 + NumServers() + NumWorkers());
    CHECK_EQ(office->van()->my_node().id, Postoffice::WorkerRankToID(MyRank()));
    CHECK(office->van()->IsReady());
    const int before = office->van()->GetTimestamp();
    CHECK_EQ(office->van()->GetTimestamp(), before + 1);
    CHECK(throws([&] { office->van()->Send(Message()); }));
}

// 7: the ranges cover every key, the topmost too.
static void every_key_has_a_server() {
    const std::vector<Range> &ranges = Postoffice::Get()->GetServerKeyRanges();
    CHECK_EQ(ranges.front().begin(), Key(0));
    CHECK_EQ(ranges.back().end(), kMaxKey);
    for (size_t at = 1; at < ranges.size(); ++at) CHECK_EQ(ranges[at].begin(), ranges[at - 1].end());
    KVWorker<float> kv(1, 0);
    std::vector<float> got;
    const std::vector<Key> top = {kMaxKey - 1, kMaxKey};
    kv.Wait(kv.Push(top, {1, 2}));
    Postoffice::Get()->Barrier(0, kWorkerGroup);
    kv.Wait(kv.Pull(top, &got));
    CHECK_EQ(got[1], 2 * NumWorkers());
}

// 9: first in, first out within a priority; what is higher overtakes what waits. (One worker, so that the order is its own.)
static void higher_priorities_overtake(KVWorker<float> &kv) {
    if (MyRank() != 0) return;
    SArray<Key> key = {Key(1)};
    SArray<float> large(size_t(1) << 20, 1.f), small(1, 1.f), order;
    std::vector<int> open;
    for (int at = 0; at < 10; ++at) open.push_back(kv.ZPush(key, large, {}, 10 + at));
    for (int at = 0; at < 3; ++at) open.push_back(kv.ZPush(key, small, {}, 20 + at, nullptr, 1));
    for (int timestamp : open) kv.Wait(timestamp);
    kv.Wait(kv.ZPull(key, &order, nullptr, 30));
    CHECK_EQ(order.size(), 13u);
    CHECK_LT(std::find(order.begin(), order.end(), 20.f), std::find(order.begin(), order.end(), 19.f));
    for (const float begin : {10.f, 20.f}) {
        float expected = begin;
        for (const float cmd : order)
            if (cmd >= begin && cmd < begin + 10) CHECK_EQ(cmd, expected++);
    }
}

// 13: what the default handle does with new keys, wrong sizes and lens; the server lives on.
static void the_default_handle() {
    KVWorker<float> kv(1, 0);
    const Key base = Key(1) << 60 | Key(MyRank()) << 20;
    std::vector<float> got, wrong(5);
    kv.Wait(kv.Pull({base, base + 1}, &got));
    CHECK(got == std::vector<float>(2, 0));
    kv.Wait(kv.PushPull({base, base + 1}, {3, 4}, &got));
    CHECK(got == std::vector<float>({3, 4}));
    CHECK(throws([&] { kv.Wait(kv.Pull({base, base + 1}, &wrong)); }));
    CHECK(throws([&] { kv.Wait(kv.Push({base, base + 1}, {1, 1}, {1, 1})); }));
    kv.Wait(kv.Pull({base}, &(got = {})));
    CHECK_EQ(got[0], 3);
}

// A long array without gaps in its keys: the same memory with other keys is another list, and keys that do not rise are told.
static void dense_arrays() {
    KVWorker<float> kv(4, 0);
    const Key base = Key(1) << 61 | Key(MyRank()) << 30;
    SArray<Key> keys(40000);
    SArray<float> ones(keys.size(), 1), got;
    for (size_t at = 0; at < keys.size(); ++at) keys.data()[at] = base + at;
    for (int at = 0; at < 3; ++at) kv.Wait(kv.ZPush(keys, ones));
    for (Key &key : keys) ++key;
    kv.Wait(kv.ZPushPull(keys, ones, &got));
    CHECK_EQ(got[0], 4);
    CHECK_EQ(got[39999], 1);
    std::swap(keys[20000], keys[20001]);
    int told = 0;
    for (int at = 0; at < 8 && told == 0; ++at) told = throws([&] { kv.Wait(kv.ZPush(keys, ones)); });
    CHECK_EQ(told, 1);
}

// More than one letter of mail, to everybody and back.
static void long_bodies(SimpleApp &app) {
    const std::string body(MyRank() == 0 ? 1000000 : 10, 'b');
    app.Wait(app.Request(1, body, kScheduler + kServerGroup + kWorkerGroup));
}

int main() {
    SimpleApp app(5, 0);
    std::atomic<int> answered{0};
    app.set_request_handle([](const SimpleData &request, SimpleApp *self) { self->Response(request, request.body + "!"); });
    app.set_response_handle([&](const SimpleData &response, SimpleApp *) {
        CHECK_EQ(response.body.back(), '!');
        ++answered;
    });
    StartPS(0, GetRole(Environment::Get()->find("DMLC_ROLE")), -1, true);
    CHECK(throws([] { StartPS(0, IsWorker() ? Node::SERVER : Node::WORKER, -1, true); }));
    Keeper keeper;
    std::unique_ptr<KVServer<float>> own, sums, dense;
    if (IsServer()) {
        // 10: requests wait for a handle that comes late.
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        own.reset(new KVServer<float>(0, false, 0));
        own->set_request_handle([&](const KVMeta &meta, const KVPairs<float> &data, KVServer<float> *server) {
            keeper.handle(meta, data, server);
        });
        sums.reset(new KVServer<float>(1));
        sums->set_request_handle(KVServerDefaultHandle<float>());
        dense.reset(new KVServer<float>(4));
        dense->set_request_handle(KVServerDefaultHandle<float>());
    }
    if (IsWorker()) {
        KVWorker<float> kv(0, 0);
        if (MyRank() == 0) arrays_outlive_their_handler(kv);
        Postoffice::Get()->Barrier(0, kWorkerGroup);
        if (NumServers() == 1 && MyRank() == 0) {
            SArray<float> before;
            kv.Wait(kv.ZPull(SArray<Key>({Key(1)}), &before, nullptr, 30));
            higher_priorities_overtake(kv);
        }
        timestamps_count_from_zero();
        ids_and_groups();
        every_key_has_a_server();
        the_default_handle();
        dense_arrays();
        long_bodies(app);
        CHECK_EQ(answered.load(), 1 + NumServers() + NumWorkers());
    }
    Finalize(0, Node::WORKER, true);
    std::puts("behaviours: all as expected");
    return 0;
}
