// The C++ layer in a program without exceptions: results are asked, not thrown.
#include <cstdio>
#include <vector>

#include "keyrange_clocked.hpp"
#include "keyrange_function.hpp"

namespace kr = keyrange;

struct keep_last : kr::server_function<float> {
    explicit keep_last(const std::string &) {}
    void update(arrays columns, const_arrays pushed) override
    {
        for (std::size_t i = 0; i < pushed.size(); i++)
            columns[0][i] = pushed[0][i];
    }
};

// Asked for an array that is not there, a view is empty.
struct halve : kr::filter {
    explicit halve(const std::string &) {}
    void apply(kr::row_view &rows) override
    {
        if (rows.part<double>().size() == 0 && rows.part<float>(1).size() == 0)
            rows.each([](auto &value) { value /= 2; });
    }
};

static int fail(const std::string &why)
{
    std::fprintf(stderr, "%s\n", why.c_str());
    return 1;
}

int main()
{
    kr::result<kr::functions> functions = kr::functions::make();
    if (!functions)
        return fail(functions.message());
    kr::functions mine = std::move(functions).value();
    if (!mine.add<keep_last>("keep_last"))
        return fail("add");
    if (!mine.add_filter<halve>("halve") || mine.add_filter<halve>("halve"))
        return fail("add_filter");
    kr::result<kr::cluster> started = kr::cluster::start(kr::job(1, 1), mine.raw());
    if (!started)
        return fail(started.message());
    kr::cluster cluster = std::move(started).value();
    kr::worker worker = cluster.take_worker(0).value();
    kr::table<float> table = worker.create_table<float>(0, "keep_last").value();
    kr::result<kr::table<float>> none = worker.create_table<float>(1, "no such function");
    if (none || none.status() != KR_REFUSED)
        return fail("expected KR_REFUSED");
    const std::vector<float> values{1, 2, 3};
    std::vector<float> got(3);
    kr::result<kr::task> task = worker.push_pull<float>(table, kr::keys::range(0, 2), values, got);
    if (!task)
        return fail(task.message());
    kr::outcome end = std::move(task).value().wait();
    if (!end || got != values)
        return fail(end.message());
    kr::options half;
    half.push_chain = kr::chain::make("user:halve", kr::direction::push, 0, mine.raw()).value();
    std::vector<float> halves(3);
    if (!worker.push_pull<float>(table, kr::keys::range(0, 2), values, halves, half).value().wait() || halves[1] != 1)
        return fail("halve");
    kr::table<float> counted = worker.create_table<float>(2, "add", KR_CLOCKED).value();
    kr::result<kr::clocked<float>> opened = kr::clocked<float>::open(worker, counted, kr::clocked_config(0));
    if (!opened || kr::clocked<float>::open(worker, counted, kr::clocked_config(0)))
        return fail("expected to open a table once, " + opened.message());
    kr::clocked<float> rows = std::move(opened).value();
    const std::vector<std::uint64_t> one_key{7};
    if (rows.get(7) || !rows.inc(7, kr::view<const float>(values.data(), 1)) || !rows.close() || !rows.fetch(one_key))
        return fail(kr_last_error());
    if (rows.get(7).value().at(0) != 1 || rows.clock().value() != 1)
        return fail("clocked");
    if (!worker.finish() || !cluster.join())
        return fail(kr_last_error());
    std::puts("no_exceptions: all as expected");
    return 0;
}
