// Filters of one's own: of each gradient only the largest rows are sent, with what was not sent kept for later; and weights too small to
// matter are read as zeros.
//
// Two workers look for 256 weights, 8 of which are not 0, from noisy gradients. `top` runs in the workers, on what they push; `cut` runs
// in the servers, on what the workers pull.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "keyrange_function.hpp"

namespace kr = keyrange;

namespace {

constexpr std::size_t weights_count = 256;
constexpr int steps = 400;

float target(std::size_t at) { return at % 32 == 5 ? float(at % 7 + 1) : 0; }

/// Sends the N rows with the largest values of a message; the others are added to the same rows of later messages. One object for each
/// chain, so what is kept belongs to one worker.
struct top : kr::filter {
    using value_type = float; // a request for a table of doubles is refused

    std::size_t rows_sent;
    std::unordered_map<std::uint64_t, float> kept;

    /// The parameter is what follows the name in the chain: top:N.
    explicit top(const std::string &parameter) : rows_sent(std::stoul(parameter))
    {
        if (rows_sent == 0)
            throw std::invalid_argument("expected at least one row");
    }

    void apply(kr::row_view &rows) override
    {
        if (rows.width() != 1 || rows.parts() != 1)
            throw std::domain_error("top is for pushes of one value per row");
        float *values = rows.part<float>().data();
        std::vector<float> sizes;
        for (std::size_t row = 0; row < rows.size(); row++) {
            values[row] += kept[rows.key(row).value()];
            sizes.push_back(std::fabs(values[row]));
        }
        const std::size_t last = std::min(rows_sent, sizes.size()) - 1;
        std::nth_element(sizes.begin(), sizes.begin() + std::ptrdiff_t(last), sizes.end(), std::greater<float>());
        for (std::size_t row = 0; row < rows.size(); row++) {
            const bool is_sent = std::fabs(values[row]) >= sizes[last];
            kept[rows.key(row).value()] = is_sent ? 0 : values[row];
            if (!is_sent)
                rows.drop(row);
        }
    }
};

/// Leaves out rows whose values are all nearer to 0 than its limit: whoever pulls reads 0 there.
struct cut : kr::filter {
    double limit;
    explicit cut(const std::string &parameter) : limit(std::stod(parameter)) {}
    void apply(kr::row_view &rows) override
    {
        const kr::view<float> values = rows.part<float>();
        for (std::size_t row = 0; row < rows.size(); row++) {
            const float *first = values.data() + row * rows.width();
            if (std::all_of(first, first + rows.width(), [&](float value) { return std::fabs(value) < limit; }))
                rows.drop(row);
        }
    }
};

/// One worker's part; returns the weights as it saw them last.
std::vector<float> train(kr::worker worker, kr_functions *mine)
{
    const std::uint32_t rank = worker.info().rank;
    kr_table_spec spec;
    kr_table_spec_init(&spec);
    spec.function = "sgd";
    spec.params_json = "{\"rate\": 0.02}";
    spec.aggregation = KR_ALL_WORKERS;
    kr::table<float> table = worker.create_table<float>(spec).value();
    const kr::keys all = kr::keys::range(0, weights_count - 1);
    const kr::chain push = kr::chain::make("user:top:16,f16", kr::direction::push, rank, mine).value();
    const kr::chain pull = kr::chain::make("user:cut:0.3,lz4", kr::direction::pull, rank, mine).value();
    kr::options when;
    when.push_chain = push;
    when.pull_chain = pull;
    std::vector<float> weights(weights_count), gradient(weights_count);
    for (int step = 1; step <= steps; step++) {
        for (std::size_t at = 0; at < weights_count; at++) {
            const double noise = std::sin(double(step) * 12.9898 + double(at) * 78.233 + rank);
            gradient[at] = weights[at] - target(at) + float(noise) * 0.05f;
        }
        when.time = std::uint64_t(step);
        worker.push_pull<float>(table, all, gradient, weights, when).value().wait().value();
    }
    if (rank == 0)
        for (const kr::chain &chain : {push, pull})
            for (const kr::filter_report &did : chain.report().value())
                std::printf("%-14s %8llu bytes became %8llu, %6llu rows left out\n", did.filter.c_str(),
                            static_cast<unsigned long long>(did.bytes_in), static_cast<unsigned long long>(did.bytes_out),
                            static_cast<unsigned long long>(did.entries_dropped));
    worker.finish().value();
    return weights;
}

} // namespace

int main()
{
    try {
        kr::functions mine = kr::functions::make().value();
        mine.add_filter<top>("top").value();
        mine.add_filter<cut>("cut").value();
        kr::cluster cluster = kr::cluster::start(kr::job(1, 2), mine.raw()).value();
        std::vector<float> weights;
        std::vector<std::thread> threads;
        for (std::uint32_t rank = 0; rank < 2; rank++) {
            threads.emplace_back([&weights, &mine, rank, worker = cluster.take_worker(rank).value()]() mutable {
                try {
                    std::vector<float> last = train(std::move(worker), mine.raw());
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
        std::size_t nonzero = 0;
        float worst = 0;
        for (std::size_t at = 0; at < weights.size(); at++) {
            nonzero += weights[at] != 0;
            worst = std::fmax(worst, std::fabs(weights[at] - target(at)));
        }
        std::printf("%zu weights are not 0, none is further than %.1f from what it should be\n", nonzero, std::ceil(double(worst) * 10) / 10);
        return !weights.empty() && nonzero == 8 && worst < 0.3f ? 0 : 1;
    } catch (const kr::error &failure) {
        std::fprintf(stderr, "%s\n", failure.what());
        return 1;
    }
}
