// Linear regression by asynchronous gradient descent, written for ps-lite: nothing in it is Keyrange's. Every worker holds rows of its
// own, pulls the weights, and pushes what is to be added to them; the servers add up (the default handle).
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "ps/ps.h"

static const size_t kWeights = 1000;
static const int kRows = 4000, kPerRow = 8, kBatch = 100, kEpochs = 30;
static const float kRate = 0.1f;

// The weights that are to be found.
static float truth(size_t feature) { return std::sin(static_cast<float>(feature)); }

struct Row {
    size_t features[kPerRow];
    float target;
};

static std::vector<Row> rows_of(int rank) {
    std::mt19937 random(unsigned(rank) + 1);
    std::vector<Row> rows(kRows);
    for (Row &row : rows) {
        row.target = 0;
        for (size_t &feature : row.features) {
            feature = random() % kWeights;
            row.target += truth(feature);
        }
    }
    return rows;
}

static void train() {
    ps::KVWorker<float> kv(0, 0);
    // Keys spread over all servers.
    std::vector<ps::Key> keys(kWeights);
    for (size_t at = 0; at < kWeights; ++at) keys[at] = ps::kMaxKey / kWeights * at;
    const std::vector<Row> rows = rows_of(ps::MyRank());
    std::vector<float> weights, steps(kWeights);
    const float rate = kRate / static_cast<float>(ps::NumWorkers());
    for (int epoch = 0; epoch < kEpochs; ++epoch) {
        for (int begin = 0; begin < kRows; begin += kBatch) {
            kv.Wait(kv.Pull(keys, &weights));
            std::fill(steps.begin(), steps.end(), 0.f);
            for (int at = begin; at < begin + kBatch; ++at) {
                const Row &row = rows[size_t(at)];
                float error = -row.target;
                for (size_t feature : row.features) error += weights[feature];
                for (size_t feature : row.features) steps[feature] -= rate * error;
            }
            kv.Wait(kv.Push(keys, steps));
        }
    }
    ps::Postoffice::Get()->Barrier(0, ps::kWorkerGroup);
    kv.Wait(kv.Pull(keys, &weights));
    double square = 0;
    for (size_t at = 0; at < kWeights; ++at) square += std::pow(weights[at] - truth(at), 2);
    const double off = std::sqrt(square / kWeights);
    CHECK_LT(off, 1e-3) << "the weights are not those of the data";
    if (ps::MyRank() == 0) std::printf("weights found, off by %.1e\n", off);
}

int main() {
    ps::Start(0);
    if (ps::IsServer()) {
        auto server = new ps::KVServer<float>(0);
        server->set_request_handle(ps::KVServerDefaultHandle<float>());
        ps::RegisterExitCallback([server]() { delete server; });
    }
    if (ps::IsWorker()) train();
    ps::Finalize(0, true);
    return 0;
}
