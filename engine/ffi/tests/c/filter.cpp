// Filters in C++: objects per chain, what they throw, what is reported, and what cannot be caught.
#include <csignal>
#include <cstdio>
#include <cstring>
#include <thread>

#include <sys/wait.h>
#include <unistd.h>

#include "keyrange_filter.hpp"
#include "keyrange_function.hpp"

namespace kr = keyrange;

#define EXPECT(condition)                                                        \
    do {                                                                         \
        if (!(condition)) {                                                      \
            std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            std::exit(1);                                                        \
        }                                                                        \
    } while (0)

static int alive = 0;

// Holds values between minus and plus its limit.
struct clip : kr::filter {
    double limit;

    explicit clip(const std::string &parameter) : limit(std::stod(parameter))
    {
        if (!(limit > 0))
            throw std::invalid_argument("expected a limit above 0");
        __atomic_add_fetch(&alive, 1, __ATOMIC_SEQ_CST);
    }
    ~clip() override { __atomic_sub_fetch(&alive, 1, __ATOMIC_SEQ_CST); }
    void apply(kr::row_view &rows) override
    {
        rows.each([&](auto &value) {
            using V = std::decay_t<decltype(value)>;
            value = std::min(std::max(value, V(-limit)), V(limit));
        });
    }
};

// Keeps rows by their norm and refuses what is not finite; for float only.
struct strong : kr::filter {
    using value_type = float;
    double least;

    explicit strong(const std::string &parameter) : least(std::stod(parameter)) {}
    void apply(kr::row_view &rows) override
    {
        EXPECT(rows.is<float>() && !rows.is<double>() && rows.time() == 3 && rows.table() == 1);
        kr::view<float> values = rows.part<float>();
        EXPECT(values.size() == rows.size() * rows.width());
        for (std::size_t row = 0; row < rows.size(); row++) {
            double square = 0;
            for (std::size_t at = row * rows.width(); at < (row + 1) * rows.width(); at++)
                square += double(values.data()[at]) * double(values.data()[at]);
            if (!(square < 1e30))
                throw std::domain_error("row of key " + std::to_string(rows.key(row).value()) + " is not finite");
            if (square < least * least)
                rows.drop(row);
            EXPECT(rows.is_present(row) == (square >= least * least));
        }
    }
};

// Asks for what is not there.
struct greedy : kr::filter {
    explicit greedy(const std::string &parameter) : what(parameter) {}
    std::string what;
    void apply(kr::row_view &rows) override
    {
        if (what == "number")
            throw 7;
        what == "type" ? (void)rows.part<double>() : (void)rows.part<float>(rows.parts());
    }
};

static kr::functions own()
{
    kr::functions mine = kr::functions::make().value();
    mine.add_filter<clip>("clip").value();
    mine.add_filter<strong>("strong").value();
    mine.add_filter<greedy>("greedy").value();
    kr::outcome twice = mine.add_filter<clip>("strong");
    EXPECT(twice.status() == KR_INVALID && twice.message().find("\"strong\" was added") != std::string::npos);
    return mine;
}

static void work(kr::worker worker, kr_functions *mine)
{
    kr_table_spec spec;
    kr_table_spec_init(&spec);
    spec.id = 1;
    spec.width = 2;
    kr::table<float> table = worker.create_table<float>(spec).value();
    kr::keys all = kr::keys::range(10, 12);
    const std::vector<float> rows{3, 4, 0.1f, 0.1f, -30, 40};
    std::vector<float> got(6);
    kr::options how;
    how.time = 3;
    kr::chain push = kr::chain::make("user:strong:1,user:clip:8", kr::direction::push, 1, mine).value();
    how.push_chain = push;
    how.pull_chain = kr::chain::make("user:clip:3.5", kr::direction::pull, 1, mine).value();
    worker.push_pull<float>(table, all, rows, got, how).value().wait().value();
    EXPECT((got == std::vector<float>{3, 3.5f, 0, 0, -3.5f, 3.5f}));
    worker.pull<float>(table, all, got).value().wait().value();
    EXPECT((got == std::vector<float>{3, 4, 0, 0, -8, 8}));
    std::vector<kr::filter_report> reports = push.report().value();
    EXPECT(reports.size() == 2 && reports[0].filter == "user:strong:1" && reports[0].entries_dropped == 1);
    EXPECT(reports[0].bytes_in == 24 && reports[0].bytes_out == 24 && reports[1].bytes_in == 24); // 16 and a bitmap

    std::vector<float> bad = rows;
    bad[3] = 1e20f;
    kr::outcome end = worker.push<float>(table, all, bad, how).value().wait();
    EXPECT(end.status() == KR_REFUSED && end.message().find("user:strong: row of key 11 is not finite (code 1)") != std::string::npos);
    for (const char *what : {"number", "type", "array"}) {
        how.push_chain = kr::chain::make(std::string("user:greedy:") + what, kr::direction::push, 1, mine).value();
        end = worker.push<float>(table, all, rows, how).value().wait();
        EXPECT(end.status() == KR_REFUSED);
        EXPECT(end.message().find(what[0] == 'n' ? "no std::exception" : "there are 1 of float") != std::string::npos);
    }
    for (const char *parameter : {"-1", "much", ""}) {
        kr::result<kr::chain> none = kr::chain::make(std::string("user:clip:") + parameter, kr::direction::push, 1, mine);
        EXPECT(none.status() == KR_INVALID && none.message().find("refuses the parameter") != std::string::npos);
    }
    spec.id = 2;
    kr::table<double> doubles = worker.create_table<double>(spec).value();
    const std::vector<double> wide(6, 100);
    how.push_chain = push;
    kr::result<kr::task> unfit = worker.push<double>(doubles, all, wide, how);
    EXPECT(unfit.status() == KR_INVALID && unfit.message().find("F32 only") != std::string::npos);
    kr::chain clips = kr::chain::make("significant:50,user:clip:60", kr::direction::push, 1, mine).value();
    how.push_chain = clips;
    how.time = 1;
    worker.push<double>(doubles, all, wide, how).value().wait().value();
    const std::vector<double> small(6, 7);
    worker.push<double>(doubles, all, small, how).value().wait().value();
    kr::held_back<double> held = clips.take_held_back(doubles).value();
    EXPECT(held.keys.size() == 3 && held.keys[0] == 10 && held.parts.size() == 1 && held.parts[0] == small);
    EXPECT(clips.take_held_back(doubles).value().keys.empty());
    worker.finish().value();
}

static std::int32_t throws(void *, void *, const kr_rows *, kr_reply *) { throw 1; }

// A C filter that lets an exception out: the process ends at once, and says where to look.
static void ends_the_process()
{
    int lines[2];
    EXPECT(pipe(lines) == 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(lines[1], 2);
        kr_functions *functions = nullptr;
        kr_filter filter{};
        filter.size = sizeof filter;
        filter.name = "throws";
        filter.rows = throws;
        kr_functions_new(&functions);
        kr_functions_add_filter(functions, &filter);
        kr::cluster cluster = kr::cluster::start(kr::job(1, 1), functions).value();
        kr::worker worker = cluster.take_worker(0).value();
        kr::table<float> table = worker.create_table<float>(0, "add").value();
        kr::options how;
        how.push_chain = kr::chain::make("user:throws", kr::direction::push, 0, functions).value();
        const std::vector<float> one{1};
        worker.push<float>(table, kr::keys::range(1, 1), one, how).value().wait().value();
        _exit(0);
    }
    close(lines[1]);
    char told[4096] = {};
    std::size_t length = 0;
    for (ssize_t got; (got = read(lines[0], told + length, sizeof told - 1 - length)) > 0;)
        length += std::size_t(got);
    int code = 0;
    EXPECT(waitpid(child, &code, 0) == child && WIFSIGNALED(code) && WTERMSIG(code) == SIGABRT);
    EXPECT(std::strstr(told, "kr_filter.rows") != nullptr);
}

// Trainer threads make their chains of the same functions, all at once.
static void chains_are_made_by_many_threads(const kr::functions &mine)
{
    std::vector<std::thread> threads;
    for (unsigned rank = 0; rank < 4; rank++)
        threads.emplace_back([&mine, rank] {
            for (int round = 0; round < 500; round++)
                kr::chain::make("user:clip:5", kr::direction::push, rank, mine.raw()).value();
        });
    for (std::thread &thread : threads)
        thread.join();
}

int main()
{
    if (std::getenv("TEST_WITHOUT_FORK") == nullptr)
        ends_the_process();
    {
        kr::functions mine = own();
        chains_are_made_by_many_threads(mine);
        kr::cluster cluster = kr::cluster::start(kr::job(1, 1), mine.raw()).value();
        std::thread thread(work, cluster.take_worker(0).value(), mine.raw());
        thread.join();
        cluster.join().value();
    }
    EXPECT(alive == 0);
    std::puts("filter: all as expected");
}
