// Least squares with several threads, one worker each, and dense gradients that the servers read where the threads wrote them.
//
//     trainer [THREADS [FEATURES]]        default: 2 threads, 65536 features
//
// Each thread has a share of the rows. Per step it computes its gradient into an array of kr_alloc() (worker::lend), pushes the whole
// of it and pulls the new weights. The table sums the gradients of all workers for a step, in the order of workers, and applies them
// once, so that a run gives the same bits whatever the threads' timing.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "keyrange.hpp"

namespace kr = keyrange;

namespace {

constexpr int steps = 60;
constexpr std::size_t row_values = 8;

struct settings {
    std::uint32_t threads = 2;
    std::uint64_t features = 65536;
    std::size_t rows() const { return std::size_t(features) * 4; }
};

/// A number from 0 to 1 for each `at`, the same on every machine.
double uniform(std::uint64_t at)
{
    at += 0x9e3779b97f4a7c15u;
    at = (at ^ (at >> 30)) * 0xbf58476d1ce4e5b9u;
    at = (at ^ (at >> 27)) * 0x94d049bb133111ebu;
    return double((at ^ (at >> 31)) >> 11) / 9007199254740992.0;
}

/// The rows first, first + threads, ...: their features and targets.
struct share {
    std::vector<std::uint32_t> features;
    std::vector<float> targets;

    share(const settings &of, std::uint32_t first)
    {
        for (std::size_t row = first; row < of.rows(); row += of.threads) {
            float target = 0;
            for (std::size_t at = 0; at < row_values; at++) {
                std::uint32_t feature = std::uint32_t(uniform(row * row_values + at) * double(of.features));
                features.push_back(feature);
                target += float(uniform(feature ^ 0x5555555555u) - 0.5); // the weight that is to be found
            }
            targets.push_back(target);
        }
    }

    /// Writes the gradient of the squared error at `weights`; returns the sum of squared errors.
    double derive(const std::vector<float> &weights, kr::view<float> gradient) const
    {
        for (std::size_t at = 0; at < gradient.size(); at++)
            gradient.data()[at] = 0;
        double errors = 0;
        for (std::size_t row = 0; row < targets.size(); row++) {
            const std::uint32_t *mine = &features[row * row_values];
            float error = -targets[row];
            for (std::size_t at = 0; at < row_values; at++)
                error += weights[mine[at]];
            for (std::size_t at = 0; at < row_values; at++)
                gradient.data()[mine[at]] += error;
            errors += double(error) * error;
        }
        return errors;
    }
};

/// One thread: its worker, its rows, its gradient. Returns the first and last sum of squared errors of its rows.
std::pair<double, double> train(kr::worker worker, const settings &of)
{
    kr_table_spec spec;
    kr_table_spec_init(&spec);
    spec.name = "weights";
    spec.store = KR_DENSE;
    spec.last_key = of.features - 1;
    spec.function = "sgd";
    spec.params_json = "{\"rate\": 0.006}";
    spec.aggregation = KR_ALL_WORKERS;
    kr::table<float> table = worker.create_table<float>(spec).value();
    kr::keys all = kr::keys::range(0, of.features - 1);

    const share mine(of, worker.info().rank);
    kr::view<float> gradient = worker.lend<float>(of.features).value(); // the servers read it where it lies
    std::vector<float> weights(of.features);
    std::pair<double, double> errors;
    kr::options step;
    for (step.time = 1; step.time <= steps; step.time++) {
        errors.second = mine.derive(weights, gradient);
        if (step.time == 1)
            errors.first = errors.second;
        kr::view<const float> pushed(gradient.data(), gradient.size());
        // Ends when all workers have pushed for this step and the new weights are here; then the gradient is ours again.
        worker.push_pull<float>(table, all, pushed, weights, step).value().wait().value();
    }
    const double sent = double(worker.info().sent_bytes) / double(steps);
    std::printf("worker %u: squared error %.4g -> %.4g, %.0f bytes sent per step for %zu of gradient\n", worker.info().rank,
                errors.first, errors.second, sent, gradient.size() * sizeof(float));
    worker.finish().value();
    return errors;
}

} // namespace

int main(int argc, char **argv)
{
    settings of;
    if (argc > 1)
        of.threads = std::uint32_t(std::atoi(argv[1]));
    if (argc > 2)
        of.features = std::uint64_t(std::atoll(argv[2]));
    if (of.threads < 1 || of.threads > 64 || of.features < 16) {
        std::fprintf(stderr, "usage: trainer [THREADS from 1 to 64 [FEATURES from 16]]\n");
        return 2;
    }
    try {
        kr_job job = kr::job(1, of.threads);
        job.last_key = of.features - 1; // so that several server threads would share these keys evenly
        kr::cluster cluster = kr::cluster::start(job).value();
        std::vector<std::pair<double, double>> errors(of.threads);
        std::vector<std::thread> threads;
        for (std::uint32_t rank = 0; rank < of.threads; rank++) {
            threads.emplace_back([&errors, &of, rank, worker = cluster.take_worker(rank).value()]() mutable {
                try {
                    errors[rank] = train(std::move(worker), of);
                } catch (const kr::error &failure) {
                    std::fprintf(stderr, "worker %u: %s\n", rank, failure.what()); // its worker is gone: the job ends for all
                    errors[rank] = {0, 1};
                }
            });
        }
        for (std::thread &thread : threads)
            thread.join();
        cluster.join().value();
        double first = 0, last = 0;
        for (const auto &one : errors) {
            first += one.first;
            last += one.second;
        }
        std::printf("squared error of all rows: %.6g -> %.6g\n", first, last);
        return last < first / 100 ? 0 : 1;
    } catch (const kr::error &failure) {
        std::fprintf(stderr, "%s\n", failure.what());
        return 1;
    }
}
