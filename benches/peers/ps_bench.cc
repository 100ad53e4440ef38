// KVWorker and KVServer through ps-lite's interface, a server process and a worker process. Against Keyrange's headers and library, and
// against ps-lite's own: it uses nothing but their common interface. ps_compare.sh runs both in turn.
//
//   c++ -O3 -march=native -std=c++14 -I P/include ps_bench.cc -o ours -L P/lib -lkeyrange -lpthread -Wl,-rpath,P/lib
//   c++ -O3 -march=native -std=c++14 -I PSLITE/include ps_bench.cc -o theirs libps.a -lprotobuf-lite -lzmq -lpthread
//   ./ours [SECONDS [latency|rate|sparse|lists|sums|own]...]     starts all nodes; prints  what <tab> figure <tab> unit
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "ps/ps.h"

using namespace ps;

namespace {

double now_s() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double seconds = 0.5;
// Which parts to run; all if empty.
std::string parts;

// Runs `round` over and over; the median over slices of what one of its units costs, in seconds.
double per_unit_s(double units, const std::function<void()> &round) {
    round();
    std::vector<double> slices;
    for (double end = now_s() + seconds; now_s() < end;) {
        const double start = now_s();
        int rounds = 0;
        do {
            round();
            ++rounds;
        } while (now_s() - start < seconds / 20);
        slices.push_back((now_s() - start) / rounds / units);
    }
    std::sort(slices.begin(), slices.end());
    return slices[slices.size() / 2];
}

SArray<Key> random_keys(size_t count, unsigned seed) {
    std::mt19937_64 random(seed);
    std::vector<Key> keys;
    while (keys.size() < count) {
        while (keys.size() < count) keys.push_back(random());
        std::sort(keys.begin(), keys.end());
        keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
    }
    return SArray<Key>(keys);
}

void print(const std::string &what, double figure, const char *unit) {
    std::printf("%s\t%.4g\t%s\n", what.c_str(), figure, unit);
    std::fflush(stdout);
}

// Push and pull of whole lists, `window` under way.
struct Lists {
    KVWorker<float> *kv;
    std::vector<SArray<Key>> keys;
    std::vector<SArray<float>> vals, got;
    size_t next = 0;

    Lists(KVWorker<float> *worker, size_t lists, size_t count) : kv(worker) {
        for (size_t at = 0; at < lists; ++at) {
            keys.push_back(random_keys(count, unsigned(count + at)));
            vals.emplace_back(count, 1.f);
            got.emplace_back(count, 0.f);
        }
    }
    double rate(int window, const std::function<int(size_t)> &request) {
        // Not timed: new keys.
        for (size_t at = 0; at < keys.size(); ++at) kv->Wait(request(at));
        std::vector<int> open(size_t(window), -1);
        size_t turn = 0;
        const double per = per_unit_s(double(keys[0].size()), [&] {
            int &oldest = open[turn++ % size_t(window)];
            if (oldest >= 0) kv->Wait(oldest);
            oldest = request(next);
            next = (next + 1) % keys.size();
        });
        for (int timestamp : open)
            if (timestamp >= 0) kv->Wait(timestamp);
        return 1e-6 / per;
    }
    double push() {
        return rate(4, [&](size_t at) { return kv->ZPush(keys[at], vals[at]); });
    }
    double pull() {
        return rate(keys.size() < 4 ? 1 : 4, [&](size_t at) { return kv->ZPull(keys[at], &got[at]); });
    }
    double push_pull() {
        return rate(keys.size() < 4 ? 1 : 4, [&](size_t at) { return kv->ZPushPull(keys[at], vals[at], &got[at]); });
    }
};

void latency(KVWorker<float> &kv) {
    SArray<Key> one = {Key(12345678901234567u)};
    SArray<float> value(1, 1.f), got(1);
    for (int is_pull = 0; is_pull < 2; ++is_pull) {
        std::vector<double> each;
        for (double end = now_s() + seconds; now_s() < end;) {
            const double start = now_s();
            kv.Wait(is_pull ? kv.ZPull(one, &got) : kv.ZPush(one, value));
            each.push_back((now_s() - start) * 1e6);
        }
        std::sort(each.begin(), each.end());
        const std::string name = std::string(is_pull ? "pull" : "push") + " of one key and wait, ";
        print(name + "p50", each[each.size() / 2], "us");
        print(name + "p99", each[each.size() * 99 / 100], "us");
    }
}

void rate(KVWorker<float> &kv) {
    SArray<Key> one = {Key(12345678901234567u)};
    SArray<float> value(1, 1.f);
    std::vector<int> open(1000, -1);
    size_t turn = 0;
    const double per = per_unit_s(1000, [&] {
        for (int at = 0; at < 1000; ++at) {
            int &oldest = open[turn++ % open.size()];
            if (oldest >= 0) kv.Wait(oldest);
            oldest = kv.ZPush(one, value);
        }
    });
    for (int timestamp : open) kv.Wait(timestamp);
    print("pushes of one key, 1000 in flight", 1e-6 / per, "M/s");
}

void sparse(KVWorker<float> &kv) {
    for (size_t count : {10000, 100000, 1000000}) {
        Lists lists(&kv, 1, count);
        const std::string name = "the same random " + std::to_string(count / 1000) + " k keys, ";
        print(name + "push", lists.push(), "M keys/s");
        print(name + "pull", lists.pull(), "M keys/s");
        print(name + "push and pull", lists.push_pull(), "M keys/s");
    }
}

void many_lists(KVWorker<float> &kv) {
    Lists lists(&kv, 40, 100000);
    const std::string name = "40 lists of 100 k keys in turn, ";
    const double start = now_s();
    for (size_t at = 0; at < 40; ++at) kv.Wait(kv.ZPush(lists.keys[at], lists.vals[at]));
    print(name + "first insert", 4 / (now_s() - start), "M keys/s");
    print(name + "push", lists.push(), "M keys/s");
    print(name + "pull", lists.pull(), "M keys/s");
    print(name + "push and pull", lists.push_pull(), "M keys/s");
}

// Whole arrays of floats, one key for each float, summed by the default handle.
void sums(KVWorker<float> &kv) {
    for (int mib = 1; mib <= 4; mib *= 4) {
        Lists lists(&kv, 8, size_t(mib) << 18);
        for (size_t at = 0; at < lists.keys[0].size(); ++at) lists.keys[0].data()[at] = Key(at);
        for (SArray<Key> &keys : lists.keys) keys = lists.keys[0];
        const std::string name = "default handle, " + std::to_string(mib) + " MiB of floats, ";
        print(name + "push", lists.push() * 4e-3, "GB/s");
        print(name + "pull", lists.pull() * 4e-3, "GB/s");
    }
}

// One key for each array, for handles of the program's own.
template <typename Val>
void own(KVWorker<Val> &kv, const char *what) {
    for (size_t mib : {1, 4}) {
        const size_t bytes = mib << 20, count = bytes / sizeof(Val);
        SArray<Key> key = {Key(mib)};
        std::vector<SArray<Val>> arrays;
        for (int slot = 0; slot < 8; ++slot) arrays.emplace_back(count, Val(1));
        for (int is_pull = 0; is_pull < 2; ++is_pull) {
            std::vector<int> open(8, -1);
            size_t turn = 0;
            const double per = per_unit_s(double(bytes), [&] {
                const size_t slot = turn++ % 8;
                if (open[slot] >= 0) kv.Wait(open[slot]);
                open[slot] = is_pull ? kv.ZPull(key, &arrays[slot]) : kv.ZPush(key, arrays[slot]);
            });
            for (int timestamp : open)
                if (timestamp >= 0) kv.Wait(timestamp);
            print(std::string(what) + ", " + std::to_string(mib) + " MiB, " + (is_pull ? "pull" : "push"), 1e-9 / per, "GB/s");
        }
    }
}

void work() {
    KVWorker<float> floats(0, 0), summed(2, 0);
    KVWorker<char> bytes(1, 0);
    const auto wants = [](const char *part) { return parts.empty() || parts.find(part) != std::string::npos; };
    if (wants("latency")) latency(floats);
    if (wants("rate")) rate(floats);
    if (wants("sparse")) sparse(floats);
    if (wants("lists")) many_lists(floats);
    if (wants("sums")) sums(floats);
    if (wants("own")) own(summed, "own handle that sums");
    if (wants("own")) own(bytes, "own handle that keeps");
}

// Keeps the last array pushed for a key, and gives it back.
struct Keep {
    std::unordered_map<Key, KVPairs<char>> kept;
    void operator()(const KVMeta &meta, const KVPairs<char> &data, KVServer<char> *server) {
        const Key key = data.keys.data()[0];
        if (meta.push) {
            kept[key] = data;
            server->Response(meta);
        } else {
            server->Response(meta, kept[key]);
        }
    }
};

// Adds up the arrays pushed for a key, and gives the sum.
struct Sum {
    std::unordered_map<Key, SArray<float>> sums;
    void operator()(const KVMeta &meta, const KVPairs<float> &data, KVServer<float> *server) {
        SArray<float> &sum = sums[data.keys.data()[0]];
        if (meta.push) {
            if (sum.empty()) sum.resize(data.vals.size(), 0);
            float *__restrict to = sum.data();
            const float *__restrict from = data.vals.data();
            for (size_t at = 0; at < data.vals.size(); ++at) to[at] += from[at];
            return server->Response(meta);
        }
        KVPairs<float> answer;
        answer.keys = data.keys;
        answer.vals = sum;
        server->Response(meta, answer);
    }
};

void node(const char *role) {
    setenv("DMLC_ROLE", role, 1);
    Start(0);
    if (IsServer()) {
        auto floats = new KVServer<float>(0);
        floats->set_request_handle(KVServerDefaultHandle<float>());
        auto bytes = new KVServer<char>(1);
        bytes->set_request_handle(Keep());
        auto summed = new KVServer<float>(2);
        summed->set_request_handle(Sum());
        RegisterExitCallback([=] {
            delete summed;
            delete floats;
            delete bytes;
        });
    }
    if (IsWorker()) work();
    Finalize(0, true);
}

}  // namespace

int main(int count, char **arguments) {
    if (count > 1) seconds = std::atof(arguments[1]);
    for (int at = 2; at < count; ++at) parts += std::string(arguments[at]) + ' ';
    setenv("DMLC_NUM_SERVER", "1", 1);
    setenv("DMLC_NUM_WORKER", "1", 1);
    setenv("DMLC_PS_ROOT_URI", "127.0.0.1", 0);
    setenv("DMLC_PS_ROOT_PORT", std::to_string(20000 + getpid() % 20000).c_str(), 0);
    const char *roles[] = {"scheduler", "server", "worker"};
    pid_t nodes[3];
    for (int at = 0; at < 3; ++at) {
        nodes[at] = fork();
        if (nodes[at] == 0) {
            node(roles[at]);
            std::_Exit(0);
        }
    }
    int failures = 0;
    for (int at = 0; at < 3; ++at) {
        int code = 0;
        waitpid(nodes[at], &code, 0);
        failures += code != 0;
    }
    return failures;
}
