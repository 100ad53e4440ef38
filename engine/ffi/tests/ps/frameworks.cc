// How two frameworks use the interface: one builds its worker before it starts, casts its server, stores metas and answers when all
// workers have pushed (application 0); the other names its role in StartPS, registers buffers and answers from a thread of its engine
// (application 1).
#include <cstdio>

#include "ps/ps.h"

using namespace ps;

static void run(const char *what) { PS_VLOG(1) << what; }

// Sums what all workers push for a key, then answers them; pulls that come before that wait.
class Aggregator {
public:
    explicit Aggregator(int app) : server_(new KVServer<char>(app)) {
        static_cast<SimpleApp *>(server_.get())->set_request_handle([this](const SimpleData &command, SimpleApp *self) {
            commands_ += command.head;
            self->Response(command, command.body);
        });
        server_->set_request_handle(
            [this](const KVMeta &meta, const KVPairs<char> &data, KVServer<char> *) { handle(meta, data); });
    }
    ~Aggregator() { CHECK_EQ(commands_.load(), 7 * NumWorkers()); }

private:
    struct Sum {
        std::vector<float> values;
        std::vector<KVMeta> pushes, pulls;
        bool is_complete = false;
    };
    void handle(const KVMeta &meta, const KVPairs<char> &data) {
        CHECK_EQ(data.keys.size(), 1u);
        Sum &sum = sums_[data.keys[0]];
        if (meta.push) {
            CHECK_EQ(data.lens.size(), 1u);
            SArray<float> floats(data.vals);
            sum.values.resize(floats.size());
            for (size_t at = 0; at < floats.size(); ++at) sum.values[at] += floats.data()[at];
            sum.pushes.push_back(meta);
            if (int(sum.pushes.size()) < NumWorkers()) return;
            sum.is_complete = true;
            for (const KVMeta &push : sum.pushes) server_->Response(push);
        } else {
            sum.pulls.push_back(meta);
        }
        if (!sum.is_complete) return;
        for (const KVMeta &pull : sum.pulls) {
            KVPairs<char> answer;
            answer.keys = data.keys;
            answer.lens = {int(sum.values.size() * sizeof(float))};
            answer.vals.CopyFrom(reinterpret_cast<const char *>(sum.values.data()), sum.values.size() * sizeof(float));
            server_->Response(pull, answer);
        }
        sum.pulls.clear();
    }
    std::map<Key, Sum> sums_;
    std::atomic<int> commands_{0};
    std::unique_ptr<KVServer<char>> server_;
};

// Keeps requests, and answers them from a thread of its own.
class Engine {
public:
    explicit Engine(int app) : server_(new KVServer<char>(app, false, 0)), thread_([this] { run(); }) {
        for (int rank = 0; rank < NumWorkers(); ++rank) {
            SArray<Key> keys = {Key(rank)};
            buffers_.emplace_back(1024, char(0));
            server_->RegisterRecvBufferWithRank(rank, keys, buffers_.back(), SArray<int>({1024}));
        }
        server_->set_request_handle([this](const KVMeta &meta, const KVPairs<char> &data, KVServer<char> *) {
            if (meta.push && data.keys[0] < Key(NumWorkers())) {
                CHECK_EQ(static_cast<void *>(data.vals.data()), static_cast<void *>(buffers_[data.keys[0]].data()));
                CHECK_EQ(meta.addr, reinterpret_cast<uint64_t>(data.vals.data()));
                CHECK_EQ(meta.val_len, 1024);
            }
            std::lock_guard<std::mutex> lock(mutex_);
            due_.emplace_back(meta, data);
            news_.notify_one();
        });
    }
    ~Engine() {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            is_over_ = true;
        }
        news_.notify_one();
        thread_.join();
    }

private:
    void run() {
        std::map<Key, KVPairs<char>> store;
        for (;;) {
            std::unique_lock<std::mutex> lock(mutex_);
            news_.wait(lock, [this] { return is_over_ || !due_.empty(); });
            if (due_.empty()) return;
            const std::pair<KVMeta, KVPairs<char>> next = due_.front();
            due_.pop_front();
            lock.unlock();
            const Key key = next.second.keys[0];
            if (next.first.push) store[key] = next.second;
            server_->Response(next.first, next.first.push ? KVPairs<char>() : store[key]);
        }
    }
    std::unique_ptr<KVServer<char>> server_;
    std::vector<SArray<char>> buffers_;
    std::mutex mutex_;
    std::condition_variable news_;
    std::deque<std::pair<KVMeta, KVPairs<char>>> due_;
    bool is_over_ = false;
    std::thread thread_;
};

static void train(KVWorker<char> &kv) {
    CHECK_EQ(kv.get_customer()->customer_id(), 0);
    kv.Wait(kv.Request(7, "a command", kServerGroup));
    const std::vector<Range> &ranges = Postoffice::Get()->GetServerKeyRanges();
    std::vector<float> gradient(100000, float(MyRank() + 1)), weights(gradient.size());
    const size_t bytes = gradient.size() * sizeof(float);
    for (int layer = 0; layer < 6; ++layer) {
        SArray<Key> key = {ranges[size_t(layer) % ranges.size()].begin() + Key(layer)};
        SArray<int> lens = {int(bytes)};
        auto *pushed = new SArray<char>(reinterpret_cast<char *>(gradient.data()), bytes, false);
        auto *pulled = new SArray<char>(reinterpret_cast<char *>(weights.data()), bytes, false);
        std::atomic<bool> is_done{false};
        kv.ZPush(key, *pushed, lens, 0, [&, pushed] {
            delete pushed;
            kv.ZPull(key, pulled, &lens, 0, [&, pulled] {
                delete pulled;
                is_done = true;
            }, -layer);
        }, -layer);
        while (!is_done) std::this_thread::yield();
        const float all = float(NumWorkers() * (NumWorkers() + 1) / 2);
        CHECK(std::all_of(weights.begin(), weights.end(), [all](float weight) { return weight == all; }));
        CHECK_EQ(lens[0], int(bytes));
    }
}

static void exchange() {
    KVWorker<char> kv(1, 0, 0);
    SArray<Key> key = {Key(MyRank())};
    SArray<char> sent, got;
    std::vector<char> memory(1024, char('a' + MyRank()));
    sent.reset(memory.data(), memory.size(), [](char *) {}, CPU, 0, CPU, 0);
    for (int round = 0; round < 20; ++round) {
        kv.Wait(kv.ZPush(key, sent, SArray<int>({1024})));
        kv.Wait(kv.ZPull(key, &got));
        CHECK(std::equal(sent.begin(), sent.end(), got.begin()) && got.size() == sent.size());
    }
}

int main() {
    Environment::Init({{"PS_TEST_SETTING", "1"}});
    CHECK_EQ(std::string(Environment::Get()->find("PS_TEST_SETTING")), "1");
    std::unique_ptr<KVWorker<char>> worker;
    if (IsWorker()) worker.reset(new KVWorker<char>(0, 0));
    StartAsync(0, "frameworks");
    std::unique_ptr<Aggregator> aggregator;
    std::unique_ptr<Engine> engine;
    if (IsServer()) aggregator.reset(new Aggregator(0)), engine.reset(new Engine(1));
    if (!Postoffice::Get()->is_recovery()) Postoffice::Get()->Barrier(0, kWorkerGroup + kServerGroup + kScheduler);
    CHECK(Postoffice::Get()->GetDeadNodes(60).empty());
    run("started");
    if (IsWorker()) {
        train(*worker);
        exchange();
        Postoffice::Get()->Barrier(0, kWorkerGroup);
    }
    worker.reset();
    Finalize(0, true);
    std::puts("frameworks: all as expected");
    return 0;
}
