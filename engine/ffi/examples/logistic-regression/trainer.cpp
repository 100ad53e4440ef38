// L1-regularised logistic regression: minimises sum_i log(1 + exp(-y_i w.x_i)) + l1 |w|_1 over rows of libsvm text.
//
//     trainer FILE [--l1 4] [--workers 2] [--block 1] [--tolerance 1e-7] [--passes 2000]        FILE "-" is standard input
//
// The trainer has its own gradient code; Keyrange keeps the weights and takes the steps. Each worker (a thread here) has a share
// of the rows. The features are walked in blocks of consecutive ones. For a block, each worker pushes two arrays: the gradient g of its
// rows and a bound u on their curvature. The table sums both over the workers and applies the server function "prox_l1",
//
//     w <- S(w - g / u, l1 / u),     S(x, t) = sign(x) max(|x| - t, 0),
//
// and the answer to the push is the block's new weights, by which every worker corrects its rows' margins y_i w.x_i. The bound makes
// every such step go down.
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <thread>

#include "keyrange.hpp"
#include "rows.hpp"

namespace kr = keyrange;

namespace {

struct settings {
    std::string file;
    double l1 = 4, tolerance = 1e-7;
    std::size_t workers = 2, block = 1, passes = 2000;
};

enum : std::uint16_t { weights_table = 0, losses_table = 1 };

/// One worker's rows, and what it knows of the model.
class trainer {
public:
    trainer(kr::worker worker, const row_share &rows, const settings &with)
        : worker_(std::move(worker)), rows_(rows), with_(with), features_(rows.columns.size()), weights_(features_),
          products_(rows.labels.size())
    {
        kr_table_spec spec;
        kr_table_spec_init(&spec);
        const std::string params = "{\"eta\": 1, \"lambda\": " + std::to_string(with.l1) + "}";
        spec.id = weights_table;
        spec.name = "weights";
        spec.store = KR_DENSE;
        spec.last_key = features_ - 1;
        spec.function = "prox_l1";
        spec.params_json = params.c_str();
        spec.aggregation = KR_ALL_WORKERS;
        weights_on_servers_ = worker_.create_table<double>(spec).value();
        losses_ = worker_.create_table<double>(losses_table, "add", KR_ALL_WORKERS).value();
        for (std::size_t first = 0; first < features_; first += with_.block)
            curvature_.push_back(bound(first, std::min(first + with_.block, features_)));
    }

    /// Passes over all blocks until the objective falls by less than the tolerance. All workers see the same sums, to the last bit,
    /// so all decide the same.
    double run()
    {
        double before = objective();
        for (std::size_t pass = 1; pass <= with_.passes; pass++) {
            for (std::size_t block = 0; block < curvature_.size(); block++)
                step(block);
            const double now = objective();
            if (worker_.info().rank == 0 && (pass & (pass - 1)) == 0)
                std::printf("pass %zu: objective %.6f\n", pass, now);
            if (before - now <= with_.tolerance * now)
                return finish(now, pass);
            before = now;
        }
        return finish(before, with_.passes);
    }

private:
    /// For each feature of a block: sum_i |x_ij| sum_k |x_ik| / 4, k over the block. A diagonal that bounds the block's Hessian.
    std::vector<double> bound(std::size_t first, std::size_t end) const
    {
        std::vector<double> made, lengths(rows_.labels.size());
        for (std::size_t feature = first; feature < end; feature++)
            each(feature, [&](std::uint32_t row, double value) { lengths[row] += std::fabs(value); });
        for (std::size_t feature = first; feature < end; feature++) {
            double sum = 0;
            each(feature, [&](std::uint32_t row, double value) { sum += std::fabs(value) * lengths[row] / 4; });
            made.push_back(sum);
        }
        return made;
    }

    void step(std::size_t block)
    {
        const std::vector<double> &u = curvature_[block];
        const std::size_t first = block * with_.block;
        std::vector<double> gradient(u.size()), fresh(u.size());
        for (std::size_t at = 0; at < u.size(); at++)
            each(first + at, [&](std::uint32_t row, double value) {
                const double y = rows_.labels[row];
                gradient[at] -= y * value / (1 + std::exp(y * products_[row]));
            });
        kr::options when;
        when.time = ++steps_;
        const kr::keys range = kr::keys::range(first, first + u.size() - 1);
        const std::vector<kr::view<const double>> pushed{gradient, u};
        worker_.push_pull<double>(weights_on_servers_, range, pushed, fresh, when).value().wait().value();
        for (std::size_t at = 0; at < u.size(); at++) {
            const double moved = fresh[at] - weights_[first + at];
            if (moved == 0)
                continue;
            weights_[first + at] = fresh[at];
            each(first + at, [&](std::uint32_t row, double value) { products_[row] += moved * value; });
        }
    }

    /// The losses of all workers' rows, summed by the servers, and the penalty.
    double objective()
    {
        std::vector<double> mine(1), sum(1);
        for (std::size_t row = 0; row < products_.size(); row++) {
            const double margin = rows_.labels[row] * products_[row];
            mine[0] += margin > 0 ? std::log1p(std::exp(-margin)) : std::log1p(std::exp(margin)) - margin;
        }
        kr::options when;
        when.time = ++sums_;
        worker_.push_pull<double>(losses_, kr::keys::range(sums_, sums_), mine, sum, when).value().wait().value();
        double norm = 0;
        for (double weight : weights_)
            norm += std::fabs(weight);
        return sum[0] + with_.l1 * norm;
    }

    double finish(double objective, std::size_t passes)
    {
        std::size_t nonzeros = 0;
        for (double weight : weights_)
            nonzeros += weight != 0;
        if (worker_.info().rank == 0)
            std::printf("objective %.10g after %zu passes, %zu weights of %zu are not 0\n", objective, passes, nonzeros, features_);
        worker_.finish().value();
        return objective;
    }

    template <class Visit>
    void each(std::size_t feature, Visit visit) const
    {
        const column &of = rows_.columns[feature];
        for (std::size_t at = 0; at < of.rows.size(); at++)
            visit(of.rows[at], double(of.values[at]));
    }

    kr::worker worker_;
    const row_share &rows_;
    const settings &with_;
    std::size_t features_;
    kr::table<double> weights_on_servers_{}, losses_{};
    std::vector<double> weights_;               // what the servers hold
    std::vector<double> products_;              // w.x of each row
    std::vector<std::vector<double>> curvature_; // by block
    std::uint64_t steps_ = 0, sums_ = 0;
};

void train(const std::vector<row_share> &rows, const settings &with)
{
    kr_job job = kr::job(1, std::uint32_t(rows.size()));
    job.last_key = std::max<std::size_t>(rows[0].columns.size(), 1) - 1;
    kr::cluster cluster = kr::cluster::start(job).value();
    std::vector<std::thread> threads;
    for (std::uint32_t rank = 0; rank < rows.size(); rank++) {
        threads.emplace_back([&rows, &with, rank, worker = cluster.take_worker(rank).value()]() mutable {
            try {
                trainer(std::move(worker), rows[rank], with).run();
            } catch (const std::exception &failure) {
                std::fprintf(stderr, "worker %u: %s\n", rank, failure.what()); // its worker is gone: the job ends for all
            }
        });
    }
    for (std::thread &thread : threads)
        thread.join();
    cluster.join().value();
}

settings parse(int argc, char **argv)
{
    settings made;
    for (int at = 1; at < argc; at++) {
        const std::string name = argv[at];
        if (name.rfind("--", 0) != 0) {
            made.file = name;
            continue;
        }
        const double value = at + 1 < argc ? std::atof(argv[++at]) : -1;
        if (name == "--l1" && value >= 0)
            made.l1 = value;
        else if (name == "--tolerance" && value > 0)
            made.tolerance = value;
        else if (name == "--workers" && value >= 1 && value <= 64)
            made.workers = std::size_t(value);
        else if (name == "--block" && value >= 1)
            made.block = std::size_t(value);
        else if (name == "--passes" && value >= 1)
            made.passes = std::size_t(value);
        else
            throw std::runtime_error("unknown option, or no fit value: " + name);
    }
    if (made.file.empty())
        throw std::runtime_error("usage: trainer FILE [--l1 4] [--workers 2] [--block 1] [--tolerance 1e-7] [--passes 2000]");
    return made;
}

} // namespace

int main(int argc, char **argv)
{
    try {
        const settings with = parse(argc, argv);
        std::ifstream file;
        if (with.file != "-") {
            file.open(with.file);
            if (!file)
                throw std::runtime_error("cannot read " + with.file);
        }
        const std::vector<row_share> rows = row_share::read(with.file == "-" ? std::cin : file, with.workers);
        if (rows[0].columns.empty())
            throw std::runtime_error("no features in " + with.file);
        train(rows, with);
    } catch (const std::exception &failure) {
        std::fprintf(stderr, "%s\n", failure.what());
        return 1;
    }
}
