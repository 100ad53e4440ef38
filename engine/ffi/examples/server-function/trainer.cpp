// A server function of one's own: gradients clipped per worker before they are summed, applied with momentum.
//
// Three workers look for the weights 1, 2, 3, ... from noisy gradients. Worker 2 is broken: now and then it sends numbers a million times
// too large, and once what is no number at all. The function clips the first and refuses the second, and the model comes out right.
#include <cmath>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "keyrange_function.hpp"

namespace kr = keyrange;

namespace {

constexpr std::size_t weights_count = 8;
constexpr int steps = 300;
constexpr int bad_step = 100;

/// The function: one object for each table and server thread.
struct clipped_momentum : kr::server_function<float> {
    static constexpr float clip = 1, rate = 0.1f, momentum = 0.8f;

    /// The table's parameters come as JSON; this function has none.
    explicit clipped_momentum(const std::string &params_json)
    {
        if (params_json != "null")
            throw std::invalid_argument("clipped_momentum takes no parameters");
    }

    /// Column 0 is the weights; column 1, the velocities, is ours.
    static kr::function_shape shape()
    {
        kr::function_shape made;
        made.state_columns = 1;
        return made;
    }

    /// Runs once for each worker's push, in the order of workers. `sums` begins with zeros.
    void aggregate(arrays sums, const_arrays pushed)
    {
        for (std::size_t at = 0; at < pushed.size(); at++)
            if (!std::isfinite(pushed[0][at]))
                throw std::domain_error("value " + std::to_string(at) + " of a gradient is not finite");
        for (std::size_t at = 0; at < pushed.size(); at++)
            sums[0][at] += std::fmin(std::fmax(pushed[0][at], -clip), clip);
    }

    /// Runs once for each step, with what aggregate() made.
    void update(arrays columns, const_arrays pushed) override
    {
        for (std::size_t at = 0; at < pushed.size(); at++) {
            columns[1][at] = momentum * columns[1][at] - rate * pushed[0][at];
            columns[0][at] += columns[1][at];
        }
    }
};

/// The gradient of (w - target)^2 / 2 with noise; worker 2's is broken now and then.
std::vector<float> gradient(const std::vector<float> &weights, std::uint32_t rank, int step)
{
    std::vector<float> made;
    for (std::size_t at = 0; at < weights.size(); at++) {
        const float noise = float(std::sin(double(step) * 12.9898 + double(at) * 78.233 + rank)) * 0.05f;
        made.push_back(weights[at] - float(at + 1) + noise);
    }
    if (rank == 2 && step % 10 == 0)
        for (float &value : made)
            value *= 1e6f;
    if (rank == 2 && step == bad_step)
        made[3] = NAN;
    return made;
}

/// One worker's part; returns the weights it saw last.
std::vector<float> train(kr::worker worker)
{
    const std::uint32_t rank = worker.info().rank;
    kr::table<float> table = worker.create_table<float>(0, "clipped_momentum", KR_ALL_WORKERS).value();
    kr::keys all = kr::keys::range(0, weights_count - 1);
    std::vector<float> weights(weights_count);
    kr::options when;
    for (int step = 1; step <= steps; step++) {
        const std::vector<float> pushed = gradient(weights, rank, step);
        when.time = std::uint64_t(step);
        kr::outcome end = worker.push_pull<float>(table, all, pushed, weights, when).value().wait();
        if (end.status() == KR_REFUSED) // the step was refused for all workers: keep the weights, go on with the next
            std::printf("worker %u, step %d: %s\n", rank, step, end.message().c_str());
        else
            std::move(end).value();
    }
    worker.finish().value();
    return weights;
}

} // namespace

int main()
{
    try {
        kr::functions functions = kr::functions::make().value();
        functions.add<clipped_momentum>("clipped_momentum").value();
        kr::cluster cluster = kr::cluster::start(kr::job(1, 3), functions.raw()).value();
        std::vector<float> weights;
        std::vector<std::thread> threads;
        for (std::uint32_t rank = 0; rank < 3; rank++) {
            threads.emplace_back([&weights, rank, worker = cluster.take_worker(rank).value()]() mutable {
                try {
                    std::vector<float> last = train(std::move(worker));
                    if (rank == 0)
                        weights = last;
                } catch (const kr::error &failure) {
                    std::fprintf(stderr, "worker %u: %s\n", rank, failure.what()); // its worker is gone: the job ends for all
                }
            });
        }
        for (std::thread &thread : threads)
            thread.join();
        cluster.join().value();
        float worst = 0;
        for (std::size_t at = 0; at < weights.size(); at++) {
            std::printf("%.2f%s", double(weights[at]), at + 1 < weights.size() ? " " : "\n");
            worst = std::fmax(worst, std::fabs(weights[at] - float(at + 1)));
        }
        return !weights.empty() && worst < 0.7f ? 0 : 1;
    } catch (const kr::error &failure) {
        std::fprintf(stderr, "%s\n", failure.what());
        return 1;
    }
}
