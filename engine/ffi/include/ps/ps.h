// The whole interface: start and end, roles and ranks, SimpleApp, KVWorker and KVServer.
#ifndef PS_PS_H_
#define PS_PS_H_

#include "ps/base.h"
#include "ps/kv_app.h"
#include "ps/simple_app.h"

namespace ps {

inline int NumWorkers() { return Postoffice::Get()->num_workers(); }
inline int NumServers() { return Postoffice::Get()->num_servers(); }
inline bool IsWorker() { return Postoffice::Get()->is_worker() != 0; }
inline bool IsServer() { return Postoffice::Get()->is_server() != 0; }
inline bool IsScheduler() { return Postoffice::Get()->is_scheduler() != 0; }
// From 0 among the nodes of this role; after Start().
inline int MyRank() { return Postoffice::Get()->my_rank(); }

// Joins the job that the DMLC_* variables describe, and waits until all nodes have come as far.
inline void Start(int customer_id, const char *argv0 = nullptr) { Postoffice::Get()->Start(customer_id, argv0, true); }
// The same without the barrier at the end.
inline void StartAsync(int customer_id, const char *argv0 = nullptr) {
    Postoffice::Get()->Start(customer_id, argv0, false);
}
// Leaves the job; with a barrier of all nodes before.
inline void Finalize(int customer_id, const bool do_barrier = true) {
    Postoffice::Get()->Finalize(customer_id, do_barrier);
}
// Of the bytedance fork: start and end with the role given.
inline Node::Role GetRole(const std::string &name) {
    CHECK(name == "worker" || name == "server" || name == "scheduler")
        << "GetRole: expected worker, server or scheduler (a process of several roles is not possible here), got " << name;
    return name == "worker" ? Node::WORKER : name == "server" ? Node::SERVER : Node::SCHEDULER;
}
inline void StartPS(int customer_id, Node::Role role, int rank, bool do_barrier, const char *argv0 = nullptr) {
    Postoffice::Get()->Init(role, rank);
    Postoffice::Get()->Start(customer_id, argv0, do_barrier);
}
inline void Finalize(int customer_id, Node::Role, bool do_barrier = true) {
    Postoffice::Get()->Finalize(customer_id, do_barrier);
}
// Called at the end of Finalize(0). The last one given counts.
inline void RegisterExitCallback(const std::function<void()> &callback) {
    Postoffice::Get()->RegisterExitCallback(callback);
}

}  // namespace ps

#endif  // PS_PS_H_
