/* Chains of filters and filters of the caller's own, in one process. */
#include "filters.h"

static kr_worker *worker;
static kr_chain *inner;

/* w += first x second, so that a filter sees two arrays. */
static int32_t product(void *context, void *state, void *const *columns, const void *const *parts, size_t values, kr_reply *reply)
{
    size_t at;
    (void)context, (void)state, (void)reply;
    for (at = 0; at < values; at++)
        ((double *)columns[0])[at] += ((const double *)parts[0])[at] * ((const double *)parts[1])[at];
    return 0;
}

static void skip_report(void *context, const kr_filter_report *report) { (void)context, (void)report; }

/* Uses what it must not use. */
static int32_t nosy(void *context, void *state, const kr_rows *rows, kr_reply *reply)
{
    (void)context, (void)state, (void)rows, (void)reply;
    SAYS(KR_MISUSE, "kr_filter is running", kr_poll(worker));
    SAYS(KR_MISUSE, "kr_filter is running", kr_chain_report(inner, skip_report, NULL));
    SAYS(KR_MISUSE, "kr_filter is running", kr_chain_free(inner));
    SAYS(KR_MISUSE, "kr_filter is running", kr_worker_finish(worker, LIMIT_MS));
    SAYS(KR_MISUSE, "kr_filter is running", kr_worker_fail(worker, "from inside"));
    return 0;
}

static void two_arrays(kr_functions *functions)
{
    const double first[2] = {100, 3}, second[2] = {4, 200};
    const void *parts[2] = {first, second};
    kr_chain *push = make_chain("user:clip:10", KR_PUSH, functions), *pull = make_chain("user:clip:35", KR_PULL, functions);
    kr_table table = make_table(worker, 2, KR_F64, 1, "product");
    kr_options options = passing(push, pull);
    kr_select range = {NULL, 0, 1};
    double got[2];
    kr_task task;
    OK(kr_push_pull(worker, table, range, parts, 2, got, 2, &options, &task));
    OK(kr_wait(worker, task, LIMIT_MS));
    EXPECT(got[0] == 35 && got[1] == 30); /* 10 x 4, at most 35; 3 x 10 */
    OK(kr_pull(worker, table, range, got, 2, NULL, &task));
    OK(kr_wait(worker, task, LIMIT_MS));
    EXPECT(got[0] == 40 && got[1] == 30);
    OK(kr_chain_free(push));
    OK(kr_chain_free(pull));
}

struct reports {
    int count;
    kr_filter_report last;
};

static void keep_report(void *context, const kr_filter_report *report)
{
    struct reports *kept = (struct reports *)context;
    const char *names[2] = {"user:even", "f16"};
    EXPECT(report->size == sizeof *report && strcmp(report->filter, names[kept->count]) == 0);
    if (kept->count++ == 0)
        kept->last = *report;
    else
        EXPECT(report->bytes_in == kept->last.bytes_out && report->bytes_out < report->bytes_in && report->entries_dropped == 0);
}

static void held(void *context, const uint64_t *keys, size_t count, const void *const *parts, size_t parts_count)
{
    kr_select which = {NULL, 0, 0};
    kr_task task;
    if (count > 0) {
        EXPECT(count == 3 && keys[2] == 8 && parts_count == 1 && ((const float *)parts[0])[1] == 5);
        OK(kr_keys_new(keys, count, &which.list));
        OK(kr_push(worker, *(kr_table *)context, which, parts, parts_count, count, NULL, &task));
        OK(kr_wait(worker, task, LIMIT_MS));
        OK(kr_keys_free(which.list));
    }
}

/* What a chain has saved, and what it holds back. */
static void reports_and_rows_held_back(kr_functions *functions)
{
    const float values[4] = {1, 2, 3, 4}, big[4] = {1, 3, 1, 2};
    const void *parts[1] = {values};
    kr_chain *push = make_chain("user:even,f16", KR_PUSH, functions);
    kr_chain *significant = make_chain("significant:5", KR_PUSH, NULL);
    kr_table table = make_table(worker, 3, KR_F32, 1, NULL), wrong = table;
    kr_select range = {NULL, 6, 9};
    kr_options options = passing(push, NULL);
    struct reports kept = {0, {0, NULL, 0, 0, 0, 0}};
    float got[4];
    kr_task task;
    OK(kr_push(worker, table, range, parts, 1, 4, &options, &task));
    OK(kr_wait(worker, task, LIMIT_MS));
    OK(kr_chain_report(push, keep_report, &kept));
    EXPECT(kept.count == 2 && kept.last.bytes_in == 16 && kept.last.entries_dropped == 2 && kept.last.nanoseconds > 0);
    EXPECT(kept.last.bytes_out == 2 * 4 + 8);
    SAYS(KR_INVALID, "visit", kr_chain_report(push, NULL, NULL));

    parts[0] = big;
    range.first = 6;
    options = passing(significant, NULL);
    OK(kr_push(worker, table, range, parts, 1, 4, &options, &task));
    OK(kr_wait(worker, task, LIMIT_MS));
    parts[0] = values;
    OK(kr_push(worker, table, range, parts, 1, 4, &options, &task));
    OK(kr_wait(worker, task, LIMIT_MS));
    wrong.value_type = KR_F64;
    OK(kr_chain_take_held_back(significant, wrong, held, &table)); /* nothing of that type, and nothing is lost */
    OK(kr_chain_take_held_back(significant, table, held, &table));
    OK(kr_chain_take_held_back(significant, table, held, &table));
    SAYS(KR_INVALID, "visit", kr_chain_take_held_back(significant, table, NULL, NULL));
    OK(kr_pull(worker, table, range, got, 4, NULL, &task));
    OK(kr_wait(worker, task, LIMIT_MS));
    EXPECT(got[0] == 1 + 1 + 1 && got[1] == 3 + 2 && got[2] == 3 + 1 + 3 && got[3] == 2 + 4);
    OK(kr_chain_free(push));
    OK(kr_chain_free(significant));
}

static void wrong_filters(kr_functions *functions)
{
    kr_functions *other;
    kr_filter made = filter("clip", clip);
    SAYS(KR_INVALID, "got NULL", kr_functions_add_filter(NULL, &made));
    SAYS(KR_INVALID, "kr_filter", kr_functions_add_filter(functions, NULL));
    SAYS(KR_INVALID, "\"clip\" was added", kr_functions_add_filter(functions, &made));
    OK(kr_functions_new(&other));
    OK(kr_functions_add_filter(other, &made)); /* another set */
    OK(kr_functions_free(other));
    made.size = 4000;
    SAYS(KR_INVALID, "sizeof", kr_functions_add_filter(functions, &made));
    made = filter(NULL, clip);
    SAYS(KR_INVALID, "kr_filter.name", kr_functions_add_filter(functions, &made));
    made = filter("a,b", clip);
    SAYS(KR_INVALID, "without comma", kr_functions_add_filter(functions, &made));
    made = filter("", clip);
    SAYS(KR_INVALID, "without comma", kr_functions_add_filter(functions, &made));
    made = filter("nothing", NULL);
    SAYS(KR_INVALID, "kr_filter.rows", kr_functions_add_filter(functions, &made));
    made = filter("strange", clip);
    made.value_type = 9;
    SAYS(KR_INVALID, "got 9", kr_functions_add_filter(functions, &made));
}

static void wrong_chains(kr_functions *functions)
{
    kr_chain *chain;
    SAYS(KR_INVALID, "filters", kr_chain_new(NULL, KR_PUSH, 1, NULL, &chain));
    SAYS(KR_INVALID, "chain", kr_chain_new("lz4", KR_PUSH, 1, NULL, NULL));
    SAYS(KR_INVALID, "got 3", kr_chain_new("lz4", 3, 1, NULL, &chain));
    SAYS(KR_INVALID, "unknown filter \"zip\"", kr_chain_new("lz4,zip", KR_PUSH, 1, NULL, &chain));
    SAYS(KR_INVALID, "put fixed before", kr_chain_new("lz4,fixed:2", KR_PUSH, 1, NULL, &chain));
    SAYS(KR_INVALID, "must be there", kr_chain_new("skip:0.5", KR_PULL, 1, NULL, &chain));
    SAYS(KR_INVALID, "there are: none", kr_chain_new("user:clip:5", KR_PUSH, 1, NULL, &chain));
    SAYS(KR_INVALID, "there are: clip, even", kr_chain_new("user:nobody", KR_PUSH, 1, functions, &chain));
    SAYS(KR_INVALID, "\"five\": expected a number", kr_chain_new("user:clip:five", KR_PUSH, 1, functions, &chain));
    SAYS(KR_INVALID, "\"five\": expected a number", kr_chain_new("user:clip:five", KR_PULL, 1, functions, &chain));
    SAYS(KR_INVALID, "no parameter", kr_chain_new("user:even:5", KR_PUSH, 1, functions, &chain));
    SAYS(KR_INVALID, "got NULL", kr_chain_report(NULL, skip_report, NULL));
    SAYS(KR_MISUSE, "another kind", kr_chain_report((kr_chain *)(void *)functions, skip_report, NULL));
    OK(kr_chain_free(NULL));
    OK(kr_chain_new("none", KR_PUSH, 1, functions, &chain));
    OK(kr_chain_free(chain));
    SAYS(KR_MISUSE, "freed before", kr_chain_free(chain));
}

/* Tells the request's end, which is a refusal with these words. */
#define REFUSED(words, call)                                      \
    do {                                                          \
        OK(call);                                                 \
        SAYS(KR_REFUSED, words, kr_wait(worker, task, LIMIT_MS)); \
    } while (0)

static void wrong_requests(kr_functions *functions)
{
    kr_chain *moody_push = make_chain("user:moody", KR_PUSH, functions), *moody_pull = make_chain("user:moody", KR_PULL, functions);
    kr_chain *far = make_chain("user:moody", KR_PULL, NULL), *nobody = make_chain("user:nobody", KR_PULL, NULL);
    kr_chain *bad = make_chain("user:clip:five", KR_PULL, NULL), *skip = make_chain("skip:0.5", KR_PUSH, NULL);
    kr_chain *evens = make_chain("user:even", KR_PUSH, functions), *clips = make_chain("user:clip:2", KR_PUSH, functions);
    kr_table floats = make_table(worker, 4, KR_F32, 1, NULL), doubles = make_table(worker, 5, KR_F64, 1, NULL);
    kr_table last = make_table(worker, 6, KR_F32, 1, "assign");
    kr_select range = {NULL, 0, 1};
    float values[2] = {13, 5}, got[2];
    double wide[2] = {13, 5};
    const void *parts[1], *wide_parts[1];
    kr_options options = passing(moody_pull, NULL);
    kr_task task;
    parts[0] = values;
    wide_parts[0] = wide;
    SAYS(KR_INVALID, "a chain for the push", kr_push(worker, floats, range, parts, 1, 2, &options, &task));
    options = passing(NULL, moody_push);
    SAYS(KR_INVALID, "a chain for the pull", kr_pull(worker, floats, range, got, 2, &options, &task));
    options = passing(moody_push, moody_pull);
    SAYS(KR_INVALID, "no rows to filter", kr_call(worker, floats, 0, "dance", NULL, 0, &options, &task));
    SAYS(KR_INVALID, "F32 only", kr_push(worker, doubles, range, wide_parts, 1, 2, &options, &task));
    SAYS(KR_INVALID, "F32 only", kr_pull(worker, doubles, range, wide, 2, &options, &task));
    REFUSED("user:moody: 13 brings bad luck (code 7)", kr_push(worker, floats, range, parts, 1, 2, &options, &task));
    OK(kr_push(worker, floats, range, parts, 1, 2, NULL, &task));
    OK(kr_wait(worker, task, LIMIT_MS));
    REFUSED("user:moody: 13 brings bad luck (code 7)", kr_pull(worker, floats, range, got, 2, &options, &task));
    options = passing(NULL, far);
    REFUSED("F32 only", kr_pull(worker, doubles, range, wide, 2, &options, &task));
    options = passing(NULL, nobody);
    REFUSED("there are: clip, even", kr_pull(worker, floats, range, got, 2, &options, &task));
    options = passing(NULL, bad);
    REFUSED("\"five\": expected a number", kr_pull(worker, floats, range, got, 2, &options, &task));
    options = passing(skip, NULL);
    SAYS(KR_INVALID, "does \"assign\"", kr_push(worker, last, range, parts, 1, 2, &options, &task));
    options = passing(evens, NULL);
    REFUSED("does \"assign\"", kr_push(worker, last, range, parts, 1, 2, &options, &task));
    options = passing(clips, NULL);
    OK(kr_push(worker, last, range, parts, 1, 2, &options, &task));
    OK(kr_wait(worker, task, LIMIT_MS));
    OK(kr_pull(worker, last, range, got, 2, NULL, &task));
    OK(kr_wait(worker, task, LIMIT_MS));
    EXPECT(got[0] == 2 && got[1] == 2);
    OK(kr_chain_free(clips));
    SAYS(KR_MISUSE, "freed before", kr_push(worker, last, range, parts, 1, 2, &options, &task));
    OK(kr_chain_free(moody_push));
    OK(kr_chain_free(moody_pull));
    OK(kr_chain_free(far));
    OK(kr_chain_free(nobody));
    OK(kr_chain_free(bad));
    OK(kr_chain_free(skip));
    OK(kr_chain_free(evens));
}

/* A filter that uses its worker and its chain is told so. */
static void from_inside(kr_functions *functions)
{
    kr_table table = make_table(worker, 7, KR_F32, 1, NULL);
    const float one = 1;
    const void *parts[1] = {&one};
    kr_select key = {NULL, 1, 1};
    kr_options options;
    kr_task task;
    inner = make_chain("user:nosy", KR_PUSH, functions);
    options = passing(inner, NULL);
    OK(kr_push(worker, table, key, parts, 1, 1, &options, &task));
    OK(kr_chain_free(inner)); /* the request keeps what it needs */
    OK(kr_wait(worker, task, LIMIT_MS));
}

int main(void)
{
    kr_functions *functions = own_functions();
    kr_filter made = filter("nosy", nosy);
    kr_function two;
    kr_cluster *cluster;
    kr_job job;
    OK(kr_functions_add_filter(functions, &made));
    memset(&two, 0, sizeof two);
    two.size = sizeof two;
    two.name = "product";
    two.value_type = KR_F64;
    two.push_parts = 2;
    two.update = product;
    OK(kr_functions_add(functions, &two));
    OK(kr_job_init(&job, 2, 1));
    OK(kr_cluster_start(&job, functions, &cluster));
    OK(kr_cluster_worker(cluster, 0, &worker));
    both_ways(worker, functions);
    two_arrays(functions);
    reports_and_rows_held_back(functions);
    wrong_filters(functions);
    wrong_chains(functions);
    wrong_requests(functions);
    from_inside(functions);
    OK(kr_functions_free(functions));
    OK(kr_worker_finish(worker, LIMIT_MS));
    OK(kr_cluster_join(cluster));
    EXPECT(states == 0);
    puts("filters: all as expected");
    return 0;
}
