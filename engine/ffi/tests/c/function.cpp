// Server functions in C++: objects per table and thread, what they throw, and what cannot be caught.
#include <csignal>
#include <cstdio>
#include <cstring>
#include <thread>

#include <sys/wait.h>
#include <unistd.h>

#include "keyrange_function.hpp"
#include "keyrange_function.hpp"

namespace kr = keyrange;

#define EXPECT(condition)                                                        \
    do {                                                                         \
        if (!(condition)) {                                                      \
            std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            std::exit(1);                                                        \
        }                                                                        \
    } while (0)

// Adds what is pushed times its factor, and counts in column 1; refuses what is not finite.
struct scaled_add : kr::server_function<double> {
    double factor;

    explicit scaled_add(const std::string &params) : factor(params == "null" ? 1 : std::atof(params.c_str()))
    {
        if (factor <= 0)
            throw std::invalid_argument("expected a factor above 0");
    }
    static kr::function_shape shape()
    {
        kr::function_shape made;
        made.state_columns = 1;
        made.initial = {10, 0};
        return made;
    }
    void update(arrays columns, const_arrays pushed) override
    {
        for (std::size_t i = 0; i < pushed.size(); i++)
            if (!(pushed[0][i] < 1e300))
                throw std::domain_error("value " + std::to_string(i) + " is not finite");
        for (std::size_t i = 0; i < pushed.size(); i++) {
            columns[0][i] += factor * pushed[0][i];
            columns[1][i] += 1;
        }
    }
    std::string call(const std::string &verb, const std::string &arguments) override
    {
        if (verb == "say")
            return arguments;
        throw 7;
    }
};

// Of the workers' values the greatest counts.
struct greatest : kr::server_function<float> {
    explicit greatest(const std::string &) {}
    static kr::function_shape shape()
    {
        kr::function_shape made;
        made.neutral = {-1e30};
        return made;
    }
    void aggregate(arrays sums, const_arrays pushed)
    {
        for (std::size_t i = 0; i < pushed.size(); i++)
            if (pushed[0][i] > sums[0][i])
                sums[0][i] = pushed[0][i];
    }
    void update(arrays columns, const_arrays pushed) override
    {
        std::memcpy(columns[0], pushed[0], pushed.size() * sizeof(float));
    }
};

static void work(kr::worker worker)
{
    const std::uint32_t rank = worker.info().rank;
    kr_table_spec spec;
    kr_table_spec_init(&spec);
    spec.id = 9;
    spec.function = "scaled_add";
    spec.params_json = "0";
    kr::result<kr::table<double>> refused = worker.create_table<double>(spec);
    EXPECT(refused.status() == KR_REFUSED && refused.message().find("factor above 0") != std::string::npos);
    spec.id = 1;
    spec.params_json = "0.5";
    kr::table<double> sums = worker.create_table<double>(spec).value();
    kr::keys both = kr::keys::range(0, 1);
    std::vector<double> values{4, 8}, got(2);
    worker.push<double>(sums, both, values).value().wait().value();
    values[1] = 1e308;
    kr::outcome end = worker.push<double>(sums, both, values).value().wait();
    EXPECT(end.status() == KR_REFUSED && end.message().find("value 1 is not finite (code 1)") != std::string::npos);
    worker.barrier("pushed").value();
    worker.pull<double>(sums, both, got).value().wait().value();
    EXPECT(got[0] == 14 && got[1] == 18);
    kr_task task = 0;
    kr_call(worker.raw(), sums.raw, 0, "jump", nullptr, 0, nullptr, &task);
    EXPECT(kr_wait(worker.raw(), task, 20000) == KR_REFUSED && std::strstr(kr_last_error(), "no std::exception"));

    kr::table<float> maxima = worker.create_table<float>(2, "greatest", KR_ALL_WORKERS).value();
    std::vector<float> pushed{rank == 0 ? 1.0f : -3.0f, -5.0f - float(rank)}, most(2);
    kr::options at;
    at.time = 1;
    worker.push_pull<float>(maxima, both, pushed, most, at).value().wait().value();
    EXPECT(most[0] == 1 && most[1] == -5);
    worker.finish().value();
}

static std::int32_t throws(void *, void *, void *const *, const void *const *, std::size_t, kr_reply *) { throw 1; }

// A C function that lets an exception out: the process ends at once, and says where to look.
static void ends_the_process()
{
    int lines[2];
    EXPECT(pipe(lines) == 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(lines[1], 2);
        kr_functions *functions = nullptr;
        kr_function function{};
        function.size = sizeof function;
        function.name = "throws";
        function.value_type = KR_F32;
        function.update = throws;
        kr_functions_new(&functions);
        kr_functions_add(functions, &function);
        kr::cluster cluster = kr::cluster::start(kr::job(1, 1), functions).value();
        kr::worker worker = cluster.take_worker(0).value();
        kr::table<float> table = worker.create_table<float>(0, "throws").value();
        const float one = 1;
        worker.push_one<float>(table, 0, kr::view<const float>(&one, 1)).value().wait().value();
        _exit(0);
    }
    close(lines[1]);
    char told[4096] = {};
    std::size_t length = 0;
    for (ssize_t got; (got = read(lines[0], told + length, sizeof told - 1 - length)) > 0;)
        length += std::size_t(got);
    int code = 0;
    EXPECT(waitpid(child, &code, 0) == child && WIFSIGNALED(code) && WTERMSIG(code) == SIGABRT);
    EXPECT(std::strstr(told, "kr_function.update") != nullptr);
}

int main()
{
    if (std::getenv("TEST_WITHOUT_FORK") == nullptr)
        ends_the_process();
    kr::functions mine = kr::functions::make().value();
    mine.add<scaled_add>("scaled_add").value();
    mine.add<greatest>("greatest").value();
    kr::cluster cluster = kr::cluster::start(kr::job(1, 2), mine.raw()).value();
    std::vector<std::thread> threads;
    for (std::uint32_t rank = 0; rank < 2; rank++)
        threads.emplace_back(work, cluster.take_worker(rank).value());
    for (std::thread &thread : threads)
        thread.join();
    cluster.join().value();
    std::puts("function: all as expected");
}
