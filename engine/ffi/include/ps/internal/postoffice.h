// The process's place in the job: roles, ranks, ids, groups, start, barriers and end.
//
// The scheduler is Keyrange's manager. Every node, the scheduler and the servers too, is a Keyrange worker as well, which carries its
// barriers and its SimpleApp mail; a server has one server thread besides.
#ifndef PS_INTERNAL_POSTOFFICE_H_
#define PS_INTERNAL_POSTOFFICE_H_

#include <set>

#include "ps/internal/member.h"
#include "ps/internal/settings.h"
#include "ps/internal/van.h"
#include "ps/range.h"

namespace ps {

class Customer;

class Postoffice {
public:
    // (Never destroyed: threads of the program may outlive main.)
    static Postoffice *Get() {
        static Postoffice *one = new Postoffice();
        return one;
    }
    static std::shared_ptr<Postoffice> _GetSharedRef() { return std::shared_ptr<Postoffice>(Get(), [](Postoffice *) {}); }

    Van *van() { return &van_; }

    // Of the bytedance fork, which can have several instances of a role in a process; here there is one, which is all of these.
    static Postoffice *GetScheduler() { return Get(); }
    static Postoffice *GetServer(int = 0) { return Get(); }
    static Postoffice *GetWorker(int = 0) { return Get(); }
    int group_size() const { return 1; }
    int num_worker_instances() const { return num_workers(); }
    int num_server_instances() const { return num_servers(); }
    static int GroupWorkerRankToInstanceID(int rank, int) { return WorkerRankToID(rank); }
    static int GroupServerRankToInstanceID(int rank, int) { return ServerRankToID(rank); }
    static int InstanceIDtoGroupRank(int id) { return IDtoRank(id); }
    int preferred_rank() const { return settings().rank; }
    std::string role_str() const { return is_worker() ? "worker" : is_server() ? "server" : "scheduler"; }
    // Takes the role from here instead of DMLC_ROLE; rank -1 is any. Before Start().
    void Init(Node::Role role, int rank = -1) {
        std::lock_guard<std::mutex> lock(settings_mutex_);
        const char *name = role == Node::WORKER ? "worker" : role == Node::SERVER ? "server" : "scheduler";
        CHECK(!settings_ || settings_->role == role) << "Init: this process is a node of another role than " << name << " already";
        if (!settings_) settings_.reset(new internal::Settings(internal::Settings::read(name)));
        if (rank >= 0) settings_->rank = rank;
    }

    // Joins the job as this customer. Blocks until all nodes have, with do_barrier.
    void Start(int customer_id, const char *argv0, bool do_barrier) {
        if (argv0 != nullptr) dmlc::InitLogging(argv0);
        {
            std::lock_guard<std::mutex> lock(start_mutex_);
            CHECK(is_worker() || started_.empty()) << "only workers can start several customers";
            CHECK(started_.insert(customer_id).second) << "Start(" << customer_id << ") was called before";
        }
        // (Not under a lock: it waits for all nodes, the other customers of this process among them.)
        std::shared_ptr<internal::Member> member = Join();
        {
            std::lock_guard<std::mutex> lock(mutex_);
            if (members_.empty() || customer_id < members_.begin()->first) Introduce(member->id());
            members_[customer_id] = member;
        }
        member->start();
        if (do_barrier) member->client().barrier(kScheduler + kServerGroup + kWorkerGroup);
    }

    // Leaves the job. Finalize(0) ends servers and scheduler too, and calls the exit callback.
    void Finalize(int customer_id, bool do_barrier = true) {
        std::shared_ptr<internal::Member> member = MemberOf(customer_id);
        if (do_barrier) member->client().barrier(kScheduler + kServerGroup + kWorkerGroup);
        member->stop();
        member->client().finish();
        {
            std::lock_guard<std::mutex> lock(mutex_);
            for (auto at = members_.begin(); at != members_.end(); ++at) {
                if (at->second != member) continue;
                members_.erase(at);
                break;
            }
        }
        {
            std::lock_guard<std::mutex> lock(start_mutex_);
            started_.erase(customer_id);
        }
        if (customer_id != 0) return;
        std::string failure = Close();
        van_.is_ready_ = false;
        if (exit_callback_) exit_callback_();
        exit_callback_ = nullptr;
        if (!failure.empty()) throw dmlc::Error("Finalize: " + failure);
    }

    // One slot: the last one given is called.
    void RegisterExitCallback(const std::function<void()> &callback) { exit_callback_ = callback; }

    // Waits for all nodes of the group, this one included.
    void Barrier(int customer_id, int group) {
        const bool is_in = (is_scheduler() && (group & kScheduler)) || (is_server() && (group & kServerGroup)) ||
                           (is_worker() && (group & kWorkerGroup));
        CHECK(group < 8 && is_in) << "Barrier: expected a group that this node is in, got " << group;
        MemberOf(customer_id)->client().barrier(group);
    }

    void AddCustomer(Customer *customer);
    void RemoveCustomer(Customer *customer);
    // The customer of an application, or null if there is none within so many seconds.
    Customer *GetCustomer(int app_id, int customer_id, int timeout_s = 0) const {
        for (int naps = 0;; ++naps) {
            {
                std::lock_guard<std::mutex> lock(mutex_);
                auto found = customers_.find(std::make_pair(app_id, customer_id));
                if (found != customers_.end()) return found->second;
            }
            if (naps >= timeout_s * 1000) return nullptr;
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
    }

    std::vector<int> GetNodeIDs(int group) const { return internal::Members(group, num_servers(), num_workers()); }

    // Even shares of all keys. The last one's end stands for 2^64: the largest key is in it.
    const std::vector<Range> &GetServerKeyRanges() {
        std::lock_guard<std::mutex> lock(start_mutex_);
        const uint64_t servers = static_cast<uint64_t>(num_servers()), share = uint64_t(kMaxKey) / servers;
        for (uint64_t at = server_key_ranges_.size(); at < servers; ++at)
            server_key_ranges_.push_back(Range(share * at, at + 1 == servers ? uint64_t(kMaxKey) : share * (at + 1)));
        return server_key_ranges_;
    }

    static int WorkerRankToID(int rank) { return internal::WorkerId(rank); }
    static int ServerRankToID(int rank) { return internal::ServerId(rank); }
    static int IDtoRank(int id) { return std::max((id - 8) / 2, 0); }

    int num_workers() const { return settings().workers; }
    int num_servers() const { return settings().servers; }
    int my_rank() const { return IDtoRank(van_.my_node_.id); }
    int is_worker() const { return settings().role == Node::WORKER; }
    int is_server() const { return settings().role == Node::SERVER; }
    int is_scheduler() const { return settings().role == Node::SCHEDULER; }
    int verbose() const { return settings().verbose; }
    // A node that dies ends the job, so none comes back.
    bool is_recovery() const { return false; }
    std::vector<int> GetDeadNodes(int = 60) { return std::vector<int>(); }

    // The library's own side.
    internal::Switchboard &switchboard() {
        std::lock_guard<std::mutex> lock(mutex_);
        if (!switchboard_) switchboard_.reset(new internal::Switchboard(num_servers(), num_workers()));
        return *switchboard_;
    }
    // The connection of a customer: its own if it was started, else that of the first one.
    std::shared_ptr<internal::Member> MemberOf(int customer_id) const {
        std::lock_guard<std::mutex> lock(mutex_);
        auto own = members_.find(is_worker() ? customer_id : 0);
        if (own == members_.end()) own = members_.begin();
        CHECK(own != members_.end()) << "no node is running: call ps::Start() first, and this before ps::Finalize()";
        return own->second;
    }

private:
    Postoffice() {}

    const internal::Settings &settings() const {
        std::lock_guard<std::mutex> lock(settings_mutex_);
        if (!settings_) settings_.reset(new internal::Settings(internal::Settings::read()));
        return *settings_;
    }

    kr_member Address() const {
        const internal::Settings &given = settings();
        kr_member member;
        internal::Must(kr_member_init(&member, given.manager.c_str()), "Start");
        member.carrier = given.carrier.c_str();
        member.secret = reinterpret_cast<const uint8_t *>(given.secret.data());
        member.secret_bytes = given.secret.size();
        member.join_ms = given.join_ms;
        return member;
    }

    std::shared_ptr<internal::Member> Join() {
        internal::Must(kr_abi_check(KR_ABI_VERSION), "Start");
        if (is_scheduler()) OpenManager();
        if (is_server()) OpenServer();
        const kr_member address = Address();
        std::shared_ptr<internal::Member> member;
        try {
            member = std::make_shared<internal::Member>(address, [this](const Message *mail) { Deliver(mail); });
        } catch (const dmlc::Error &error) {
            const std::string failure = server_failure();
            throw dmlc::Error(failure.empty() ? error.what() : failure);
        }
        if (is_scheduler()) member->set_id(kScheduler);
        if (is_server()) member->set_id(internal::ServerId(OwnShard(member->client())));
        if (is_worker()) {
            const std::string wish = internal::Writer().put(int32_t(settings().rank)).bytes();
            const std::string rank = member->client().ask(0, "join", wish).at(0);
            member->set_id(internal::WorkerId(internal::Reader(rank).get<int32_t>()));
        }
        return member;
    }

    void OpenManager() {
        kr_job job;
        const uint32_t servers = static_cast<uint32_t>(num_servers());
        internal::Must(kr_job_init(&job, servers, static_cast<uint32_t>(num_workers()) + servers + 1), "Start");
        job.join_ms = settings().join_ms;
        const kr_member address = Address();
        internal::Must(
            kr_manager_start(&job, address.manager, nullptr, address.secret, address.secret_bytes, &manager_), "Start");
    }

    void OpenServer() {
        internal::Switchboard &board = switchboard();
        server_ = std::thread([this, &board] {
            const kr_member address = Address();
            const std::string listen = "tcp:" + settings().host + ":0";
            kr_function function = kr_function();
            function.size = sizeof function;
            function.name = "ps";
            function.value_type = KR_F32;
            function.update = &internal::Switchboard::update;
            function.call = &internal::Switchboard::call;
            function.context = &board;
            kr_functions *functions = nullptr;
            kr_status status = kr_functions_new(&functions);
            if (status == KR_OK) status = kr_functions_add(functions, &function);
            if (status == KR_OK) status = kr_server_run(&address, 1, listen.c_str(), functions);
            if (status != KR_OK) {
                std::lock_guard<std::mutex> lock(mutex_);
                server_failure_ = kr_last_error();
            }
            kr_functions_free(functions);
        });
    }

    // Which of the servers is in this process.
    int OwnShard(internal::Client &client) {
        const std::vector<std::string> tokens = client.ask(KR_ALL_SHARDS, "who", std::string());
        for (size_t shard = 0; shard < tokens.size(); ++shard)
            if (internal::Reader(tokens[shard]).get<uint64_t>() == switchboard().token()) return static_cast<int>(shard);
        throw dmlc::Error("no server of the job is this process's own");
    }

    void Introduce(int id) {
        van_.my_node_.role = settings().role;
        van_.my_node_.id = id;
        van_.my_node_.hostname = settings().host;
        van_.send_ = [this](const Message &message) {
            MemberOf(message.meta.customer_id)->post(message.meta.recver, message);
        };
        van_.is_ready_ = true;
    }

    // Waits for the job's end; what went wrong, or "".
    std::string Close() {
        if (server_.joinable()) server_.join();
        std::string failure = server_failure();
        if (manager_ != nullptr) {
            kr_status status;
            do status = kr_manager_wait(manager_, 1000);
            while (status == KR_TIMED_OUT);
            if (status != KR_OK) failure = kr_last_error();
            kr_manager_free(manager_);
            manager_ = nullptr;
        }
        return failure;
    }
    std::string server_failure() const {
        std::lock_guard<std::mutex> lock(mutex_);
        return server_failure_;
    }

    // A message to its customer; null: those that came too early, once more.
    void Deliver(const Message *mail);
    Customer *Addressee(const Meta &meta) const;

    Van van_;
    mutable std::mutex mutex_, start_mutex_, settings_mutex_;
    mutable std::unique_ptr<internal::Settings> settings_;
    std::map<int, std::shared_ptr<internal::Member>> members_;
    std::map<std::pair<int, int>, Customer *> customers_;
    std::unique_ptr<internal::Switchboard> switchboard_;
    std::set<int> started_;
    // Mail for customers that do not exist yet.
    std::deque<Message> early_;
    std::vector<Range> server_key_ranges_;
    std::function<void()> exit_callback_;
    std::thread server_;
    std::string server_failure_;
    kr_manager *manager_ = nullptr;
};

}  // namespace ps

#define PS_VLOG(level) LOG_IF(INFO, (level) <= ::ps::Postoffice::Get()->verbose())

#endif  // PS_INTERNAL_POSTOFFICE_H_
