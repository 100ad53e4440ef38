/* keyrange.h: the C interface of Keyrange, a parameter server.
 *
 * Made from the library's source by ci/header.sh: do not edit.
 *
 * LINK     cc trainer.c -lkeyrange              (shared)
 *          cc trainer.c libkeyrange.a -lpthread -ldl -lm   (static)
 *          Call kr_abi_check(KR_ABI_VERSION) once at the start.
 *
 * STATUS   Every call answers a kr_status; KR_OK is 0. For any other, kr_last_error() of the same thread says what was
 *          expected, what came, and what to do.
 *
 * OWNS     Handles (kr_worker *, kr_keys *, ...) belong to the caller until the call that its comment names frees them.
 *          A handle that is NULL, freed, of another kind, or inherited by fork() is told (KR_INVALID, KR_MISUSE).
 *          Arrays belong to the caller; those of kr_push(), kr_pull() and kr_push_pull() are used until the task has ended
 *          (kr_wait(), kr_test() or the callback said so, or kr_cancel() returned, or the worker is freed). Strings and structs are
 *          read during the call only. Pointers must be NULL where that is allowed, or point to what the parameter says.
 *
 * THREADS  A kr_worker, kr_clocked, kr_manager or kr_functions is used by one thread at a time, whichever; two at once are told
 *          (KR_MISUSE).
 *          Different handles need no care. A kr_keys, a kr_chain and a kr_cluster are used by any number of threads; free a list and join a
 *          cluster when none does. There are no globals: several clusters and workers can live in one process.
 *
 * CALLS    Callbacks of yours run inside your own calls, functions of a kr_function on the servers' threads, those of a kr_filter on
 *          either. They are left by their return only: an exception that comes out ends the process with a line that names the
 *          callback, and longjmp() is forbidden.
 *
 * WAITS    Calls with `timeout_ms` wait at most that long; kr_worker_connect(), kr_cluster_start() and kr_server_run() as long as the
 *          job's own deadlines say. All others return at once.
 *
 * SIZES    Structs begin with their size, so that a program built with an older header goes on working: start from the _init()
 *          function, or from zeros with `size` set.
 */


#ifndef KEYRANGE_H
#define KEYRANGE_H

#include <stddef.h>
#include <stdint.h>

// A chain for what is pushed: it runs in the worker.
#define KR_PUSH 1

// A chain for what is pulled: it runs in the servers.
#define KR_PULL 2

// As `staleness`: reads wait for nobody.
#define KR_UNBOUNDED UINT64_MAX

// Rows leave early that changed most for their size.
#define KR_EARLY_MAGNITUDE 0

// Rows leave early that have waited longest.
#define KR_EARLY_FIFO 1

// Any rows leave early.
#define KR_EARLY_RANDOM 2

// Most columns of a function, the parameters included.
#define KR_COLUMNS_MAX 8

// The lowest free rank.
#define KR_ANY_RANK UINT32_MAX

// For kr_call(): every shard.
#define KR_ALL_SHARDS UINT32_MAX

// Version of this interface that the header describes. It rises when a program built with an older header would no longer
// work; see kr_abi_check().
#define KR_ABI_VERSION 1

// 32-bit values (float).
#define KR_F32 1

// 64-bit values (double).
#define KR_F64 2

// Any key; a row comes into being when it is first pushed.
#define KR_SPARSE 0

// Every key from `first_key` to `last_key` has a row from the start.
#define KR_DENSE 1

// Like KR_SPARSE until kr_table_freeze(); then the keys are fixed and rows lie in the order of keys.
#define KR_FROZEN 2

// Each push is applied by itself, as it arrives.
#define KR_IMMEDIATE 0

// The pushes of all workers for one time are summed in the order of workers, then applied once.
#define KR_ALL_WORKERS 1

// Each push is applied as it arrives and ends a clock of its worker: reads may ask for all that was done up to some clock. Use
// such tables through kr_clocked_open(), of function "add"; KR_FROZEN and filters that lose something are refused.
#define KR_CLOCKED 2

// How a call ended. Every code but KR_OK and KR_PENDING leaves a text in kr_last_error().
typedef enum {
    // Done.
    KR_OK = 0,
    // The task is under way (kr_test only).
    KR_PENDING = 1,
    // Not done within the time given; the task goes on and can be waited for again.
    KR_TIMED_OUT = 2,
    // An argument is not what the call takes: NULL, a wrong length, keys that do not rise, an unknown name.
    KR_INVALID = 3,
    // A handle was freed, is of another kind, is in use by another thread or by a callback, or was inherited by fork().
    KR_MISUSE = 4,
    // No room now: wait for some tasks, then try again.
    KR_BUSY = 5,
    // A server, or a filter of yours, refused the request or a piece of a large one; nothing of what it refused was applied.
    KR_REFUSED = 6,
    // A server is gone for good.
    KR_GONE = 7,
    // The job is over: it was aborted, a node died, or this node has finished.
    KR_ENDED = 8,
    // A node could not join, connect or listen, or the operating system refused something.
    KR_NODE = 9,
    // The task was cancelled, or its own deadline passed; whether a push was applied is unknown.
    KR_CANCELLED = 10,
    // A bug of this library; the text says where. The handle concerned is not to be trusted any more.
    KR_PANIC = 11,
} kr_status;

// Filters at work in one direction, with what they remember and have counted. Make one for each worker and direction, and
// name it in kr_options of each request that is to pass it. Any number of threads may use it at once; free it when none does.
typedef struct kr_chain kr_chain;

// A KR_CLOCKED table as one worker uses it: fetch the rows of a clock, get them and add to them, close the clock. Clocks count from
// 0. Every call takes the worker that opened it, and one thread at a time may be in a call with either. Nothing happens between
// calls: kr_clocked_poll() now and then within a long clock takes in what has come.
typedef struct kr_clocked kr_clocked;

// A whole job in this process: its servers are threads, its workers are yours to use, each from a thread of your choice. Any number of
// clusters can be in one process. Any thread may take a worker from it or abort it; join it when no other thread uses it.
typedef struct kr_cluster kr_cluster;

// Server functions for the jobs of this process, the built-in ones included, and filters of yours.
typedef struct kr_functions kr_functions;

// A list of strictly rising keys, checked and copied once. Use the same list again for the same keys: what it was cut into
// and whether servers know it stays with it, so a repeated push or pull sends 16 bytes instead of the keys.
// Any number of threads may use it at once; free it when none does.
typedef struct kr_keys kr_keys;

// The manager of a job whose nodes are other processes.
typedef struct kr_manager kr_manager;

// Where the answer of a server function is put together; valid during the call.
typedef struct kr_reply kr_reply;

// One worker of a job. One thread at a time may be in a call with it (another gets KR_MISUSE); which thread may change.
// Nothing happens between calls: when requests should go on while you compute, call kr_poll() now and then.
typedef struct kr_worker kr_worker;

// A table as calls name it: copy it freely. Every worker may create the same table to get it.
typedef struct {
    // Its number.
    uint16_t id;
    // KR_F32 or KR_F64.
    uint16_t value_type;
    // Values per key.
    uint32_t width;
    // KR_IMMEDIATE, KR_ALL_WORKERS or KR_CLOCKED.
    uint32_t aggregation;
} kr_table;

// Some bytes of a caller.
typedef struct {
    // The first; may be NULL if there are none.
    const void *bytes;
    // How many.
    size_t bytes_count;
} kr_bytes;

// Called with the answer of one shard. The bytes are valid during the call.
typedef void (*kr_visit_reply)(void *context, uint32_t shard, const void *reply, size_t reply_bytes);

// Names a request of one worker. Never 0, never used again.
typedef uint64_t kr_task;

// Called once with the end of a request, from inside a later call with its worker and on that call's thread. `message` is valid
// during the call; for KR_OK it is "". It must not use the same worker (KR_MISUSE). An exception
// that leaves it ends the process; longjmp must not.
typedef void (*kr_callback)(void *context, kr_task task, kr_status status, const char *message);

// How a request is to be run. Zero everywhere but `size` starts it at once, without a deadline, at time 0. NULL for the struct
// says the same.
typedef struct {
    // sizeof(kr_options).
    size_t size;
    // The number of the update: on tables that aggregate over all workers, pushes of the same time belong together, and every
    // worker pushes once for each.
    uint64_t time;
    // Requests of this worker that must have ended well before this one starts.
    const kr_task *after;
    // How many.
    size_t after_count;
    // The request ends as KR_CANCELLED when it has not ended so long after its start; 0 is never.
    uint32_t deadline_ms;
    // Pull only, if not 0: answer when update `time` of the table is finished.
    uint32_t after_time;
    // Takes the end of the request instead of kr_wait(), or NULL.
    kr_callback callback;
    // Given to the callback.
    void *context;
    // Requests of a higher priority leave before those of a lower one that wait for room; otherwise first in, first out.
    int32_t priority;
    // What this request pushes passes this chain of KR_PUSH; NULL is none.
    kr_chain *push_chain;
    // What this request pulls passes this chain of KR_PULL; NULL is none. With a chain key lists travel whole, unless one of the two
    // says key-cache.
    kr_chain *pull_chain;
} kr_options;

// Gives back memory that was lent to an answer; called once, on any thread.
typedef void (*kr_release)(void *context);

// What one filter of a chain has done since the chain was made. Bytes are of what it was given and what it passed on: keys for
// key-cache, value arrays (with a bit for each row where some are left out) for the others, everything behind the header for lz4.
typedef struct {
    // sizeof(kr_filter_report), as the library knows it.
    size_t size;
    // The filter as written in the chain.
    const char *filter;
    // Bytes before it.
    uint64_t bytes_in;
    // Bytes after it.
    uint64_t bytes_out;
    // Rows it left out.
    uint64_t entries_dropped;
    // Time it took at this end: encoding of pushes, decoding of pulls.
    uint64_t nanoseconds;
} kr_filter_report;

// Called with what one filter has done. The report is valid during the call.
typedef void (*kr_visit_filter)(void *context, const kr_filter_report *report);

// Called with rows that were held back: `count` rising keys, and `parts_count` arrays of their count x width values, of the table's
// type. All are valid during the call.
typedef void (*kr_visit_held)(void *context,
                              const uint64_t *keys,
                              size_t count,
                              const void *const *parts,
                              size_t parts_count);

// How one worker uses a clocked table. Start from kr_clocked_config_init(); staleness must be the same for all workers.
typedef struct {
    // sizeof(kr_clocked_config).
    size_t size;
    // How many clocks a read may be behind: at clock c it holds all that any worker did in the clocks before c - staleness, and
    // always what this worker did. 0 is bulk synchronous (BSP), KR_UNBOUNDED asynchronous, anything between stale synchronous (SSP).
    uint64_t staleness;
    // If not 0, at most this much may be on its way: kr_clocked_close() returns when no value of the sum of this worker's
    // increments that others may not have is beyond value_bound / sqrt(clock). Needs `eager`.
    double value_bound;
    // If not 0, increments of the clock at hand leave before it is closed and (with `eager`) changed rows before the others close
    // theirs, so many bytes per second at most. Reads get fresher, and nothing else changes.
    uint64_t early_bytes_per_s;
    // Bytes that leave early at once, at most; 0 is 16384.
    uint64_t early_burst_bytes;
    // Which rows leave early: KR_EARLY_MAGNITUDE, KR_EARLY_FIFO or KR_EARLY_RANDOM.
    uint32_t early_order;
    // 1: servers send rows fetched once again, unasked, when all other workers have closed a clock (ESSP); 0: rows are asked for when
    // they are too old (with KR_UNBOUNDED: never again).
    uint32_t eager;
} kr_clocked_config;

// What one worker has done with a clocked table.
typedef struct {
    // sizeof(kr_clocked_stats).
    size_t size;
    // Clocks closed.
    uint64_t clock;
    // Rows read.
    uint64_t reads;
    // How many clocks behind they were, on average: 0 when each held all that was done in the clocks before.
    double mean_behind;
    // How many clocks behind the oldest of them was; never more than the staleness.
    uint64_t most_behind;
    // Rows asked for.
    uint64_t rows_pulled;
    // Rows that came unasked.
    uint64_t rows_pushed;
    // Seconds spent waiting in the calls of this table.
    double waited_s;
    // Rows of increments sent early.
    uint64_t early_rows_sent;
    // Bytes of that.
    uint64_t early_bytes_sent;
    // Rows that servers sent early.
    uint64_t early_rows_received;
    // Bytes of that.
    uint64_t early_bytes_received;
} kr_clocked_stats;

// Makes the state of one chain's filter; `parameter` is what follows the name in the chain ("" if nothing). NULL refuses the
// chain, with what was given to kr_reply_write() as the reason.
typedef void *(*kr_filter_create)(void *context, const char *parameter, kr_reply *reply);

// Frees such a state.
typedef void (*kr_filter_destroy)(void *context, void *state);

// Rows of one message, for a filter of yours to change or to leave out. The struct and all its arrays are valid during the call.
typedef struct {
    // sizeof(kr_rows), as the library knows it.
    size_t size;
    // Number of rows, those left out by filters before included.
    size_t rows;
    // Values per row and array.
    uint32_t width;
    // KR_F32 or KR_F64.
    uint32_t value_type;
    // How many arrays of values there are: as many as the push has; 1 in answers.
    uint32_t parts_count;
    // Number of the table.
    uint16_t table;
    // kr_options.time of the request.
    uint64_t time;
    // The arrays, each of rows x width values of the type, one row after the other: change them as you like.
    void *const *parts;
    // The key of each row; NULL where only the rows are known (at the servers, for key lists they have seen).
    const uint64_t *keys;
    // One byte for each row, not 0 if it is there: write 0 to leave it out. A row left out of a push adds nothing (a table whose
    // function does not add refuses the push); one left out of a pull is read as 0. Rows that are not there stay so.
    uint8_t *present;
} kr_rows;

// Changes the values of a message, or leaves rows out of it. 0 says that all went well. Anything else fails the request (KR_REFUSED),
// with this number and what was given to kr_reply_write() as the reason; then this message does not go out. A push runs it on
// the worker's thread, inside a call with the worker; a pull on a server's. It must not block, nor use a worker or a chain
// (KR_MISUSE). An exception that leaves it ends the process; longjmp must not.
typedef int32_t (*kr_filter_rows)(void *context, void *state, const kr_rows *rows, kr_reply *reply);

// A filter of yours, written user:NAME or user:NAME:PARAMETER in chains. Start from zeros, and set `size`.
typedef struct {
    // sizeof(kr_filter).
    size_t size;
    // By which chains name it: without comma, colon and spaces.
    const char *name;
    // KR_F32 or KR_F64 if it works on tables of that type only (a request for another is KR_INVALID or, where only the
    // server knows the filter, KR_REFUSED); 0 for both.
    uint32_t value_type;
    // May be NULL: then the state is NULL, and a parameter is refused.
    kr_filter_create create;
    // May be NULL.
    kr_filter_destroy destroy;
    // Must be there.
    kr_filter_rows rows;
    // Given to all of them, from any worker's or server's thread, possibly from several at once. A state is used by one thread at a
    // time.
    void *context;
} kr_filter;

// Makes the state of one table on one server thread; `params_json` is what the table's description says ("null" if nothing). NULL
// refuses the table, with what was given to kr_reply_write() as the reason.
typedef void *(*kr_function_create)(void *context, const char *params_json, kr_reply *reply);

// Frees such a state.
typedef void (*kr_function_destroy)(void *context, void *state);

// Applies a push: `columns` has one array for each column, the parameters first, `parts` one for each array pushed, all of `values`
// values of the function's type. The arrays are valid during the call. 0 says that it is applied. Anything else refuses the push: its
// worker gets KR_REFUSED with this number and what was given to kr_reply_write(). Refuse before a column is changed, for nothing is
// undone. It runs on the server's thread: it must not block. An exception that
// leaves it ends the process; longjmp must not.
typedef int32_t (*kr_function_update)(void *context,
                                      void *state,
                                      void *const *columns,
                                      const void *const *parts,
                                      size_t values,
                                      kr_reply *reply);

// Answers a kr_call(): what it gives to kr_reply_write() is the answer, and 0 says that all went well. Anything else refuses the call,
// with what was written as the reason. At most the job's frame size (a quarter of `kr_job.ring_bytes`, less 64) can be answered. It
// runs on the server's thread, like the update, and as little may it block or be left otherwise than by its end.
typedef int32_t (*kr_function_call)(void *context,
                                    void *state,
                                    const char *verb,
                                    const void *arguments,
                                    size_t arguments_bytes,
                                    kr_reply *reply);

// Takes one worker's part of an aggregated push into what the workers before it came to: `sums` and `parts` have one array for each
// array pushed, all of `values` values. Anything but 0 refuses the push of all workers, which changes nothing then. Else as
// kr_function_update, which gets what comes out.
typedef int32_t (*kr_function_aggregate)(void *context,
                                         void *state,
                                         void *const *sums,
                                         const void *const *parts,
                                         size_t values,
                                         kr_reply *reply);

// A server function. Start from zeros, and set `size`.
typedef struct {
    // sizeof(kr_function).
    size_t size;
    // By which tables name it.
    const char *name;
    // KR_F32 or KR_F64: the type of its tables.
    uint32_t value_type;
    // Arrays that a push carries, 1 to 8; 0 is 1.
    uint32_t push_parts;
    // Columns of state for each row besides the parameters, at most KR_COLUMNS_MAX - 1.
    uint32_t state_columns;
    // If not 0, aggregated pushes are applied one after the other, in the order of workers, instead of summed. (A push that
    // filters have left rows out of is refused then, and so it is if `neutral` is not 0.)
    uint32_t apply_each;
    // What the values of each column are before the first push (1 + state_columns numbers); NULL is 0.
    const double *initial;
    // May be NULL: then the state is NULL.
    kr_function_create create;
    // May be NULL.
    kr_function_destroy destroy;
    // Must be there.
    kr_function_update update;
    // Given to all of them, from any server thread, possibly from several at once.
    void *context;
    // May be NULL: then kr_call() is refused.
    kr_function_call call;
    // May be NULL: then the pushes of several workers for one time are summed, or applied one after the other if `apply_each`
    // is not 0. With it, `apply_each` must be 0.
    kr_function_aggregate aggregate;
    // What each array is that the first worker's part is aggregated into (push_parts numbers); NULL is 0.
    const double *neutral;
} kr_function;

// The size of a job. Start from kr_job_init(), or from zeros: but for `servers` and `workers`, 0 stands for the default.
typedef struct {
    // sizeof(kr_job).
    size_t size;
    // Servers, at least 1. In a cluster of this process each is one thread.
    uint32_t servers;
    // Workers, at least 1.
    uint32_t workers;
    // The keys from `first_key` to `last_key` are split evenly over the server threads; keys outside belong to the outermost ones.
    // 0 and 0: all keys.
    uint64_t first_key;
    // The last of them, included.
    uint64_t last_key;
    // Receive ring of each link, a power of two from 4096; a frame is at most a quarter of it. Default 1 MiB.
    uint32_t ring_bytes;
    // Requests under way for each worker and server thread, at most; a power of two from 64. Default 16384.
    uint32_t window_requests;
    // Every node must have joined so long after the start. Default 20 s.
    uint32_t join_ms;
} kr_job;

// How a process finds its job. Start from kr_member_init().
typedef struct {
    // sizeof(kr_member).
    size_t size;
    // Where the manager listens: "tcp:HOST:PORT" or "unix:NAME".
    const char *manager;
    // Name of the job, the same on all its nodes. NULL is "keyrange".
    const char *job;
    // The job's secret, the same on all its nodes; needed beyond loopback.
    const uint8_t *secret;
    // Its length.
    size_t secret_bytes;
    // How frames travel: "auto", "shm" or "tcp". NULL is "auto".
    const char *carrier;
    // How long to look for the manager and to wait for the other nodes. 0 is 20 s.
    uint32_t join_ms;
    // The rank to have, or KR_ANY_RANK.
    uint32_t rank;
} kr_member;

// Called with one message, from any thread of the library, possibly from several at once. `level` is 1 (error) to 5 (trace).
typedef void (*kr_log)(void *context, uint32_t level, const char *message);

// Which keys a request is about: those of `list`, or if it is NULL all from `first` to `last`, both included.
typedef struct {
    // A key list, or NULL.
    kr_keys *list;
    // Without a list: the first key.
    uint64_t first;
    // Without a list: the last key, included.
    uint64_t last;
} kr_select;

// What a table is. Start from kr_table_spec_init().
typedef struct {
    // sizeof(kr_table_spec).
    size_t size;
    // For messages to people, at most 255 bytes. NULL is "table" and its number.
    const char *name;
    // The server function: "add", "assign", "max", "min", "sgd", "adagrad", "adam", "ftrl", "prox_l1", "elastic_net", or one of
    // yours. NULL is "add".
    const char *function;
    // Its parameters as JSON, such as {"rate": 0.1}; NULL for its defaults.
    const char *params_json;
    // KR_DENSE: the first key.
    uint64_t first_key;
    // KR_DENSE: the last key, included.
    uint64_t last_key;
    // The number of the table in this job, from 0. All workers name it by this number.
    uint16_t id;
    // KR_F32 or KR_F64; 0 is KR_F32.
    uint32_t value_type;
    // Values per key; 0 is 1.
    uint32_t width;
    // KR_SPARSE, KR_DENSE or KR_FROZEN.
    uint32_t store;
    // KR_IMMEDIATE, KR_ALL_WORKERS or KR_CLOCKED.
    uint32_t aggregation;
} kr_table_spec;

// Called with what a pull of existing keys found: `count` rising keys and their count x width values, of the table's type. Both are
// valid during the call.
typedef void (*kr_visit_found)(void *context, const uint64_t *keys, size_t count, const void *values);

// Who a worker is in its job.
typedef struct {
    // sizeof(kr_worker_info).
    size_t size;
    // Its rank, from 0.
    uint32_t rank;
    // Workers of the job.
    uint32_t workers;
    // Server threads of the job, each owning a range of keys.
    uint32_t shards;
    // Requests under way.
    uint32_t open_requests;
    // Bytes sent over its links so far.
    uint64_t sent_bytes;
    // Bytes received.
    uint64_t received_bytes;
} kr_worker_info;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Begins a kr_call() whose arguments are `parts`, one after the other. They are written into the frame from where they lie, and must
// stay as they are until the task has ended. `visit` is called with each shard's answer where it lies, as it comes, from inside a
// later call with this worker and on that call's thread; it must not use the same worker, must not throw, and must not longjmp out.
// (kr_wait() tells the end.)
// Since 0.1.
kr_status kr_call_in_place(kr_worker *worker,
                           kr_table table,
                           uint32_t shard,
                           const char *verb,
                           const kr_bytes *parts,
                           size_t parts_count,
                           kr_visit_reply visit,
                           void *visit_context,
                           const kr_options *options,
                           kr_task *task);

// Ends the answer of the call under way with bytes that are sent from where they lie, instead of a copy by kr_reply_write(). They
// must stay as they are until `release(context)` is called: once, from any thread, and late, as the last few answers are kept for
// a worker that asks again after its link broke. (`release` may be NULL for memory that stays for ever.) When this fails, `release` is
// not called.
// KR_MISUSE: the answer has its end already.
// Since 0.1.
kr_status kr_reply_lend(kr_reply *reply,
                        const void *bytes,
                        size_t bytes_count,
                        kr_release release,
                        void *context);

// Makes a chain with an empty memory from filters in the order in which they are applied, such as "key-cache,significant:0.1,fixed:2,lz4"
// or "user:clip:5"; "none" is no filter. `direction` is KR_PUSH or KR_PULL; what is random in it follows from `seed`. Filters of
// yours are those of `functions`, which may be NULL and may be freed afterwards, and of which any number of threads may make chains at
// once: of a push chain they must be there; of a pull
// chain the servers must have them.
// KR_INVALID: an unknown filter or parameter, an order or direction that makes no sense, a filter that is not there or refuses its
// parameter.
// Since 0.1.
kr_status kr_chain_new(const char *filters,
                       uint32_t direction,
                       uint64_t seed,
                       kr_functions *functions,
                       kr_chain **chain);

// Frees a chain; requests under way keep what they need of it. NULL is fine.
// Since 0.1.
kr_status kr_chain_free(kr_chain *chain);

// Calls `visit` with what each filter of the chain has done so far, in the order of the chain.
// Since 0.1.
kr_status kr_chain_report(kr_chain *chain, kr_visit_filter visit, void *context);

// Takes the rows that `significant` has held back from pushes to `table` out of the chain, and calls `visit` once with them. Push
// them without the chain at the end, and nothing is missing.
// Since 0.1.
kr_status kr_chain_take_held_back(kr_chain *chain,
                                  kr_table table,
                                  kr_visit_held visit,
                                  void *context);

// Opens a KR_CLOCKED table at clock 0, once per worker and table: the servers go on counting where the worker's clock is. Every
// worker of the job must open it and close clocks, or the others wait. Free it with kr_clocked_free().
// KR_INVALID: a table that counts no clocks or is open already, a configuration that makes no sense.
// Since 0.1.
//
// Example: add a step to some rows of the table at every clock.
//
//     kr_clocked_config config;
//     kr_clocked *rows;
//     kr_clocked_config_init(&config);
//     config.staleness = 2;
//     if (kr_clocked_open(worker, table, &config, &rows) != KR_OK)
//         return fail(kr_last_error());
//     for (clock = 0; clock < 100; clock++)
//         if (kr_clocked_fetch(worker, rows, keys, count, 10000) || !add_steps(worker, rows) || kr_clocked_close(worker, rows, 10000))
//             return fail(kr_last_error());
kr_status kr_clocked_open(kr_worker *worker,
                          kr_table table,
                          const kr_clocked_config *config,
                          kr_clocked **clocked);

// Makes the rows of `count` keys, in any order, readable at this clock: waits, at most `timeout_ms`, for those that are not there or
// too old. Keys that nobody has added to read as 0.
// KR_TIMED_OUT: fetch again; the text names the workers that are behind (the servers get a second more to say so).
// Since 0.1.
kr_status kr_clocked_fetch(kr_worker *worker,
                           kr_clocked *clocked,
                           const uint64_t *keys,
                           size_t count,
                           uint32_t timeout_ms);

// Copies the row of a key that was fetched at this clock to `row`: room for one row, of the table's width and type. It holds what this
// worker has added, in this clock too.
// KR_INVALID: it was not fetched at this clock.
// Since 0.1.
kr_status kr_clocked_get(kr_worker *worker,
                         kr_clocked *clocked,
                         uint64_t key,
                         void *row);

// Adds `delta`, one row of the table's width and type, to the row of `key`: for this worker at once, for all others when the clock is
// closed. The row need not have been fetched.
// Since 0.1.
kr_status kr_clocked_inc(kr_worker *worker,
                         kr_clocked *clocked,
                         uint64_t key,
                         const void *delta);

// Adds one row of `deltas` (`count` x width values) to the row of each of `count` keys, in any order.
// Since 0.1.
kr_status kr_clocked_batch_inc(kr_worker *worker,
                               kr_clocked *clocked,
                               const uint64_t *keys,
                               size_t count,
                               const void *deltas);

// Closes the clock: what was added in it leaves for the servers. Then waits, at most `timeout_ms`, until the clock before it has arrived
// there and the value bound holds.
// KR_TIMED_OUT: the clock is closed nevertheless; go on, or wait with kr_clocked_flush(). KR_INVALID: rows of a kr_clocked_fetch() that
// timed out are still on their way; fetch them first.
// Since 0.1.
kr_status kr_clocked_close(kr_worker *worker,
                           kr_clocked *clocked,
                           uint32_t timeout_ms);

// Takes in what has come, and sends what may go early, without waiting: reads that follow get fresher, here and elsewhere.
// Since 0.1.
kr_status kr_clocked_poll(kr_worker *worker,
                          kr_clocked *clocked);

// Waits, at most `timeout_ms`, until all closed clocks have arrived at the servers.
// Since 0.1.
kr_status kr_clocked_flush(kr_worker *worker, kr_clocked *clocked, uint32_t timeout_ms);

// How many clocks this worker has closed: the number of the clock at hand.
// Since 0.1.
kr_status kr_clocked_clock(kr_worker *worker, kr_clocked *clocked, uint64_t *clock);

// Tells what was done so far. Set `stats->size` before.
// Since 0.1.
kr_status kr_clocked_describe(kr_worker *worker, kr_clocked *clocked, kr_clocked_stats *stats);

// Writes how many rows were read that were 0, 1, ... clocks behind to `reads`, room for `count` numbers; the last one counts all that were
// further behind.
// Since 0.1.
kr_status kr_clocked_reads(kr_worker *worker,
                           kr_clocked *clocked,
                           uint64_t *reads,
                           size_t count);

// Frees the handle, not the table; NULL is fine. What was added in a clock that is not closed is lost: close and flush first. The
// worker may have been freed before.
// Since 0.1.
kr_status kr_clocked_free(kr_clocked *clocked);

// Fills `config` with the default: staleness 0, rows asked for, no value bound, nothing early.
// Since 0.1.
kr_status kr_clocked_config_init(kr_clocked_config *config);

// Adds a filter to a set of functions: for the push chains made with it, and for the pull chains that workers ask of the servers started
// with it. The struct is copied; what its pointers lead to must stay for as long as chains and servers use it.
// KR_INVALID: there is one of this name, or the name cannot stand in a chain.
// Since 0.1.
kr_status kr_functions_add_filter(kr_functions *functions,
                                  const kr_filter *filter);

// Begins a set of server functions. Free it with kr_functions_free() once the servers it was given to were started.
// Since 0.1.
kr_status kr_functions_new(kr_functions **functions);

// Frees a set of server functions; jobs that were started with it keep theirs. NULL is fine.
// Since 0.1.
kr_status kr_functions_free(kr_functions *functions);

// Adds a function, replacing a built-in one of the same name. The struct is copied; what its pointers lead to must stay for as long
// as servers use it.
// Since 0.1.
kr_status kr_functions_add(kr_functions *functions,
                           const kr_function *function);

// Adds bytes to the answer of the call under way, or to the reason for refusing a push. Only from inside the function that was
// given this `reply`, on its thread (KR_MISUSE).
// Since 0.1.
kr_status kr_reply_write(kr_reply *reply,
                         const void *bytes,
                         size_t bytes_count);

// Fills `job` with the defaults for so many servers and workers.
// Since 0.1.
kr_status kr_job_init(kr_job *job, uint32_t servers, uint32_t workers);

// Starts a job in this process, with server functions of yours besides the built-in ones (`functions` may be NULL).
// Since 0.1.
kr_status kr_cluster_start(const kr_job *job,
                           kr_functions *functions,
                           kr_cluster **cluster);

// Hands out the worker of this rank, once. It ends with kr_worker_finish() or kr_worker_fail(), before kr_cluster_join().
// Since 0.1.
kr_status kr_cluster_worker(kr_cluster *cluster,
                            uint32_t rank,
                            kr_worker **worker);

// Ends the job; every worker hears `reason` at its next call.
// Since 0.1.
kr_status kr_cluster_abort(kr_cluster *cluster, const char *reason);

// Waits until every worker has finished or the job was aborted, ends the server threads, and frees the cluster. Workers that were
// not handed out count as having left, which aborts the job. KR_ENDED, with the reason, when the job did not end well.
// Since 0.1.
kr_status kr_cluster_join(kr_cluster *cluster);

// Fills `member` with the defaults for a manager that listens at `manager`; the string is not copied.
// Since 0.1.
kr_status kr_member_init(kr_member *member, const char *manager);

// Starts a manager that listens at `listen` ("tcp:HOST:PORT", port 0 for any, or "unix:NAME"). `job_name` may be NULL, and so may
// `secret` on one host.
// Since 0.1.
kr_status kr_manager_start(const kr_job *job,
                           const char *listen,
                           const char *job_name,
                           const uint8_t *secret,
                           size_t secret_bytes,
                           kr_manager **manager);

// Writes where the manager can be reached (with the port that was found) to `address`, zero-terminated. KR_INVALID if `address_bytes` is
// too small.
// Since 0.1.
kr_status kr_manager_address(kr_manager *manager,
                             char *address,
                             size_t address_bytes);

// Waits for the job's end, at most `timeout_ms` (KR_TIMED_OUT: call again). KR_OK when every worker finished; KR_ENDED, with the reason,
// when the job was aborted.
// Since 0.1.
kr_status kr_manager_wait(kr_manager *manager,
                          uint32_t timeout_ms);

// Frees a manager; a job that still runs is aborted. NULL is fine.
// Since 0.1.
kr_status kr_manager_free(kr_manager *manager);

// Runs a server with `threads` server threads until the job's end, on the calling thread and threads of its own. `listen` says where
// workers of other hosts reach it ("tcp:HOST:0" for any port); NULL is loopback. `functions` may be NULL.
// KR_OK when the job finished; KR_ENDED, with the reason, when it was aborted.
// Since 0.1.
kr_status kr_server_run(const kr_member *member,
                        uint32_t threads,
                        const char *listen,
                        kr_functions *functions);

// Copies `count` keys, which must rise strictly; every number is a key. Free the list with kr_keys_free(); requests under
// way keep what they need of it.
// KR_INVALID: keys that do not rise (the text names the first), NULL.
// Since 0.1.
kr_status kr_keys_new(const uint64_t *keys,
                      size_t count,
                      kr_keys **list);

// Whether a list holds just these `count` keys: 1 in `is_equal` if so, else 0. Cheaper by far than a list anew, for callers who get
// the same keys again without being told.
// Since 0.1.
kr_status kr_keys_equal(kr_keys *list,
                        const uint64_t *keys,
                        size_t count,
                        int32_t *is_equal);

// Frees a list. NULL is fine.
// Since 0.1.
kr_status kr_keys_free(kr_keys *list);

// Sends the library's messages up to `level` (1 error, 2 warning, 3 info, 4 debug, 5 trace) to a function. Once for a process, before
// anything else is started; KR_MISUSE the second time. Without it the library says nothing.
// Since 0.1.
kr_status kr_log_to(kr_log log,
                    uint32_t level,
                    void *context);

// Allocates `bytes` zeros on a multiple of 64, in memory that is lent to the servers: arrays in it are pushed without a copy where
// the server is on this host (elsewhere like any other array). Any part of it may be pushed. Allocate once and use it again; free it
// with kr_free(), or with its worker.
// Since 0.1.
kr_status kr_alloc(kr_worker *worker,
                   size_t bytes,
                   void **memory);

// Frees memory of kr_alloc(). Requests under way keep what they push of it. NULL is fine.
// KR_INVALID: not a pointer that kr_alloc() of this worker returned, or freed before.
// Since 0.1.
kr_status kr_free(kr_worker *worker, void *memory);

// Begins a push: `parts_count` arrays (as many as the table's function takes, usually 1; 0 only makes the keys known) of
// `values` = keys x width values each, in the order of the keys. The arrays stay yours, but must stay as they are until the task
// has ended: nothing is copied but into the ring; from a block of kr_alloc() not even that where the server is on this host.
// KR_INVALID: a wrong length or type, keys that are not the table's. KR_BUSY: too many open tasks.
// Since 0.1.
//
// Example: push a gradient for a list of keys, and wait.
//
//     kr_select which = {keys, 0, 0};
//     const void *parts[] = {gradient};
//     kr_task task;
//     if (kr_push(worker, table, which, parts, 1, count, NULL, &task) || kr_wait(worker, task, 10000))
//         fprintf(stderr, "%s\n", kr_last_error());
kr_status kr_push(kr_worker *worker,
                  kr_table table,
                  kr_select which,
                  const void *const *parts,
                  size_t parts_count,
                  size_t values,
                  const kr_options *options,
                  kr_task *task);

// Begins a pull into `into`, room for `values` = keys x width values, which is the library's until the task has ended. Keys that
// were never pushed read as the table's initial value.
// Since 0.1.
kr_status kr_pull(kr_worker *worker,
                  kr_table table,
                  kr_select which,
                  void *into,
                  size_t values,
                  const kr_options *options,
                  kr_task *task);

// Begins a push that is answered with the new values of its keys: kr_push() and kr_pull() in one round trip. On a table that
// aggregates over all workers the values are those after all of them have pushed for this time.
// Since 0.1.
kr_status kr_push_pull(kr_worker *worker,
                       kr_table table,
                       kr_select which,
                       const void *const *parts,
                       size_t parts_count,
                       void *into,
                       size_t values,
                       const kr_options *options,
                       kr_task *task);

// Begins a pull of the keys from which.first to which.last that exist. Take them with kr_wait_found().
// Since 0.1.
kr_status kr_pull_existing(kr_worker *worker,
                           kr_table table,
                           kr_select which,
                           const kr_options *options,
                           kr_task *task);

// Pushes the row of one key: the cheapest request there is. The row is copied at once. Waits for room, at most `timeout_ms`, when
// as many requests are under way as the job allows. `task` may be NULL if nobody will wait for this one; kr_wait_below(worker, 0, ...) waits for
// all.
// Since 0.1.
kr_status kr_push_one(kr_worker *worker,
                      kr_table table,
                      uint64_t key,
                      const void *row,
                      uint32_t timeout_ms,
                      kr_task *task);

// Begins to run `verb` of the table's server function with these argument bytes, at one shard or at KR_ALL_SHARDS. Take the answers
// with kr_wait_replies().
// Since 0.1.
kr_status kr_call(kr_worker *worker,
                  kr_table table,
                  uint32_t shard,
                  const char *verb,
                  const void *arguments,
                  size_t arguments_bytes,
                  const kr_options *options,
                  kr_task *task);

// Why the last call of this thread that failed did so: what was expected, what came, what to do. Never NULL. The text is
// valid until the next failing call of this thread.
// Since 0.1.
const char *kr_last_error(void);

// The name of a status, such as "KR_INVALID"; "unknown" for numbers that are none.
// Since 0.1.
const char *kr_status_name(int32_t status);

// Whether the library speaks version `header_version` of the interface: call it once at the start as
// kr_abi_check(KR_ABI_VERSION). KR_INVALID, with both versions in the text, if not.
// Since 0.1.
kr_status kr_abi_check(uint32_t header_version);

// The version of the library, such as "0.1.0".
// Since 0.1.
const char *kr_version(void);

// Fills `spec` with the default: table 0, sparse, float, one value per key, "add", applied at once.
// Since 0.1.
kr_status kr_table_spec_init(kr_table_spec *spec);

// Creates a table on every server and waits for it, at most `timeout_ms`. Every worker may create the same table; a
// different one of the same number is KR_REFUSED.
// Since 0.1.
kr_status kr_table_create(kr_worker *worker,
                          const kr_table_spec *spec,
                          uint32_t timeout_ms,
                          kr_table *table);

// Fixes the keys of a KR_FROZEN table on every server.
// Since 0.1.
kr_status kr_table_freeze(kr_worker *worker, kr_table table, uint32_t timeout_ms);

// Forgets a table and its values on every server.
// Since 0.1.
kr_status kr_table_drop(kr_worker *worker, kr_table table, uint32_t timeout_ms);

// Waits for the end of a request, at most `timeout_ms`, and says how it ended. KR_TIMED_OUT: it goes on, wait again. A request
// whose end was told before, and one with a callback, count as ended well.
// Since 0.1.
kr_status kr_wait(kr_worker *worker,
                  kr_task task,
                  uint32_t timeout_ms);

// Moves things on without waiting and says whether the request has ended: KR_PENDING if not, else how. Told once, like kr_wait().
// Since 0.1.
kr_status kr_test(kr_worker *worker,
                  kr_task task);

// Moves things on without waiting: sends what found no room, takes in what has arrived, calls callbacks.
// Since 0.1.
kr_status kr_poll(kr_worker *worker);

// Waits until fewer than `open` requests are under way, at most `timeout_ms`: to bound how far ahead a loop of pushes runs. 0 and
// 1 both wait for all.
// Since 0.1.
kr_status kr_wait_below(kr_worker *worker,
                        size_t open,
                        uint32_t timeout_ms);

// Ends a request early, as KR_CANCELLED. Its arrays are yours again when this returns; what was sent may still be applied.
// Since 0.1.
kr_status kr_cancel(kr_worker *worker,
                    kr_task task);

// Waits for a kr_pull_existing(), at most `timeout_ms`, and calls `visit` once with what it found.
// Since 0.1.
kr_status kr_wait_found(kr_worker *worker,
                        kr_task task,
                        uint32_t timeout_ms,
                        kr_visit_found visit,
                        void *context);

// Waits for a kr_call(), at most `timeout_ms`, and calls `visit` with each shard's answer, in the order of shards.
// Since 0.1.
kr_status kr_wait_replies(kr_worker *worker,
                          kr_task task,
                          uint32_t timeout_ms,
                          kr_visit_reply visit,
                          void *context);

// Joins a job and connects to all its servers; the calling thread waits, at most member->join_ms.
// KR_NODE: no manager answers, a wrong secret, a server cannot be reached. KR_ENDED: the job is over.
// Since 0.1.
kr_status kr_worker_connect(const kr_member *member, kr_worker **worker);

// Tells who the worker is and what it has moved.
// Since 0.1.
kr_status kr_worker_describe(kr_worker *worker, kr_worker_info *info);

// Waits until every worker of the job has come to the barrier of this name, at most `timeout_ms`. Requests go on meanwhile.
// Since 0.1.
kr_status kr_barrier(kr_worker *worker,
                     const char *name,
                     uint32_t timeout_ms);

// Ends the worker's part in good order: waits for its requests (at most `timeout_ms`), says good-bye, frees the handle. When all
// workers have, the servers end. The handle is freed also when this fails.
// Since 0.1.
kr_status kr_worker_finish(kr_worker *worker,
                           uint32_t timeout_ms);

// Ends the worker's part because it cannot go on, and frees the handle: the job ends, and every other node hears `reason`.
// Since 0.1.
kr_status kr_worker_fail(kr_worker *worker,
                         const char *reason);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* KEYRANGE_H */
