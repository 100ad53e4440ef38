// Keyrange through ps-lite's interface: KVWorker and KVServerDefaultHandle, a server process and a worker process. Prints what it
// measures beside what ps-lite itself reached on another machine (a 2-vcore Zen 5).
//
//   sh engine/ffi/install.sh --prefix P
//   c++ -O3 -march=native -std=c++11 -I P/include benches/peers/ps_bench.cc -o ps_bench -L P/lib -lkeyrange -lpthread -Wl,-rpath,P/lib
//   ./ps_bench [SECONDS [latency|rate|sparse|sums|dense]...]     starts all nodes; DMLC_PS_VAN_TYPE=shm|tcp as usual
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

void print(const char *what, double ours, const char *unit, double theirs, bool is_rate) {
    std::printf("%-46s %10.4g %-8s %10.4g %8.1f x\n", what, ours, unit, theirs, is_rate ? ours / theirs : theirs / ours);
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
        print(is_pull ? "pull one key and wait, p50" : "push one key and wait, p50", each[each.size() / 2], "us", 185, false);
        std::printf("%-46s %10.4g us\n", "  p99", each[each.size() * 99 / 100]);
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
    print("push one key, 1000 in flight", 1e-6 / per, "M/s", 0.33, true);
}

void sparse(KVWorker<float> &kv) {
    const size_t counts[] = {10000, 100000, 1000000};
    const double theirs[][3] = {{64, 56, 44}, {32, 49, 31}, {10.8, 12.3, 7.5}};
    for (int at = 0; at < 3; ++at) {
        Lists lists(&kv, 1, counts[at]);
        const std::string name = "the same random " + std::to_string(counts[at] / 1000) + " k keys, ";
        print((name + "push").c_str(), lists.push(), "M keys/s", theirs[at][0], true);
        print((name + "pull").c_str(), lists.pull(), "M keys/s", theirs[at][1], true);
        print((name + "pushpull").c_str(), lists.push_pull(), "M keys/s", theirs[at][2], true);
    }
    Lists lists(&kv, 40, 100000);
    const double start = now_s();
    for (size_t at = 0; at < 40; ++at) kv.Wait(kv.ZPush(lists.keys[at], lists.vals[at]));
    print("40 lists of random 100 k keys, first insert", 4 / (now_s() - start), "M keys/s", 3, true);
    print("40 lists of random 100 k keys in turn, push", lists.push(), "M keys/s", 10.8, true);
    print("40 lists of random 100 k keys in turn, pull", lists.pull(), "M keys/s", 10, true);
    print("40 lists of random 100 k keys in turn, pushpull", lists.push_pull(), "M keys/s", 6, true);
}

// Whole arrays of floats, summed by the default handle. (ps-lite's figures are of a server that sums one array for each key.)
void sums(KVWorker<float> &kv) {
    for (int mib = 1; mib <= 4; mib *= 4) {
        Lists lists(&kv, 8, size_t(mib) << 18);
        for (size_t at = 0; at < lists.keys[0].size(); ++at) lists.keys[0].data()[at] = Key(at);
        for (SArray<Key> &keys : lists.keys) keys = lists.keys[0];
        const std::string name = "array of " + std::to_string(mib) + " MiB, summed, ";
        const double gb = 4e-3;
        print((name + "push").c_str(), lists.push() * gb, "GB/s", 2.7, true);
        print((name + "pull").c_str(), lists.pull() * gb, "GB/s", 2.7, true);
    }
}

// One key with many bytes, as ps-lite's own benchmark does, for a handle of the program's own (KVWorker<char>).
void dense(KVWorker<char> &kv) {
    const double theirs[][2] = {{3.6, 2.4}, {4.1, 3.0}};
    for (int at = 0; at < 2; ++at) {
        const size_t bytes = size_t(1) << (20 + 2 * at);
        SArray<Key> key = {Key(at)};
        std::vector<SArray<char>> arrays;
        for (int slot = 0; slot < 8; ++slot) arrays.emplace_back(bytes, char(1));
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
            const std::string name = "own handle, " + std::to_string(bytes >> 20) + " MiB " + (is_pull ? "pull" : "push");
            print((name + ", 8 in flight").c_str(), 1e-9 / per, "GB/s", theirs[at][is_pull], true);
        }
    }
}

void work() {
    std::printf("%-46s %10s %-8s %10s\n", "", "here", "", "ps-lite on another machine (Zen 5)");
    KVWorker<float> kv(0, 0);
    KVWorker<char> bytes(1, 0);
    const auto wants = [](const char *part) { return parts.empty() || parts.find(part) != std::string::npos; };
    if (wants("latency")) latency(kv);
    if (wants("rate")) rate(kv);
    if (wants("sparse")) sparse(kv);
    if (wants("sums")) sums(kv);
    if (wants("dense")) dense(bytes);
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

void node(const char *role) {
    setenv("DMLC_ROLE", role, 1);
    Start(0);
    if (IsServer()) {
        auto floats = new KVServer<float>(0);
        floats->set_request_handle(KVServerDefaultHandle<float>());
        auto bytes = new KVServer<char>(1);
        bytes->set_request_handle(Keep());
        RegisterExitCallback([=] {
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
