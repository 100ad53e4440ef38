// What the DMLC_* variables say.
#ifndef PS_INTERNAL_SETTINGS_H_
#define PS_INTERNAL_SETTINGS_H_

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "ps/internal/message.h"

namespace ps {
namespace internal {

struct Settings {
    Node::Role role;
    int servers, workers;
    std::string manager;
    std::string carrier;
    std::string secret;
    // Where this node can be reached.
    std::string host;
    // The rank this worker is to have, or -1.
    int rank;
    int verbose;
    uint32_t join_ms;

    // Throws dmlc::Error naming the variable that is missing or wrong. A role that is given stands for DMLC_ROLE.
    static Settings read(const std::string &given = std::string()) {
        Settings settings;
        const std::string role = given.empty() ? required("DMLC_ROLE") : given;
        if (role == "worker") {
            settings.role = Node::WORKER;
        } else if (role == "server") {
            settings.role = Node::SERVER;
        } else if (role == "scheduler") {
            settings.role = Node::SCHEDULER;
        } else {
            throw wrong("DMLC_ROLE", "worker, server or scheduler", role);
        }
        settings.servers = number("DMLC_NUM_SERVER", required("DMLC_NUM_SERVER"), 1, 4096);
        settings.workers = number("DMLC_NUM_WORKER", required("DMLC_NUM_WORKER"), 1, 4096);
        const std::string root = required("DMLC_PS_ROOT_URI");
        const int port = number("DMLC_PS_ROOT_PORT", required("DMLC_PS_ROOT_PORT"), 1, 65535);
        const bool is_local = text("DMLC_LOCAL", "0") != "0";
        settings.manager = is_local ? "unix:ps-" + std::to_string(port) : "tcp:" + root + ":" + std::to_string(port);
        settings.carrier = carrier_for(is_local);
        settings.secret = text("KEYRANGE_SECRET", "");
        settings.host = is_local ? std::string("127.0.0.1") : own_host(root, port);
        settings.rank = number("DMLC_RANK", text("DMLC_RANK", "-1"), -1, 4095);
        settings.verbose = number("PS_VERBOSE", text("PS_VERBOSE", "0"), 0, 9);
        settings.join_ms = static_cast<uint32_t>(number("PS_JOIN_MS", text("PS_JOIN_MS", "60000"), 1, 1 << 30));
        return settings;
    }

private:
    static std::string text(const char *name, const char *fallback) {
        const char *value = Environment::Get()->find(name);
        return value == nullptr || *value == '\0' ? fallback : value;
    }
    static std::string required(const char *name) {
        const std::string value = text(name, "");
        if (value.empty())
            throw dmlc::Error(std::string("the environment variable ") + name +
                              " is not set; a node needs DMLC_ROLE, DMLC_NUM_WORKER, DMLC_NUM_SERVER, DMLC_PS_ROOT_URI and "
                              "DMLC_PS_ROOT_PORT");
        return value;
    }
    static dmlc::Error wrong(const char *name, const std::string &expected, const std::string &got) {
        return dmlc::Error(std::string(name) + ": expected " + expected + ", got \"" + got + "\"");
    }
    static int number(const char *name, const std::string &value, long least, long most) {
        char *end = nullptr;
        const long number = std::strtol(value.c_str(), &end, 10);
        if (end == value.c_str() || *end != '\0' || number < least || number > most)
            throw wrong(name, std::to_string(least) + " to " + std::to_string(most), value);
        return static_cast<int>(number);
    }

    static std::string carrier_for(bool is_local) {
        const std::string van = text("DMLC_PS_VAN_TYPE", text("DMLC_ENABLE_RDMA", "").c_str());
        if (van == "shm" || van == "tcp" || van == "auto") return van;
        for (const char *known : {"", "0", "1", "zmq", "p3", "ibverbs", "fabric", "ucx", "multivan"})
            if (van == known) return is_local ? "shm" : "auto";
        throw wrong("DMLC_PS_VAN_TYPE", "shm, tcp, auto, or one of ps-lite's (zmq, p3, ibverbs), which mean auto", van);
    }

    // DMLC_NODE_HOST, the address of DMLC_INTERFACE, or the one from which the scheduler is reached.
    static std::string own_host(const std::string &root, int port) {
        const std::string host = text("DMLC_NODE_HOST", ""), interface = text("DMLC_INTERFACE", "");
        if (!host.empty()) return host;
        return interface.empty() ? host_towards(root, port) : host_of(interface);
    }
    static std::string host_of(const std::string &interface) {
        ifaddrs *all = nullptr;
        std::string host;
        if (getifaddrs(&all) == 0) {
            for (ifaddrs *at = all; at != nullptr && host.empty(); at = at->ifa_next)
                if (at->ifa_addr != nullptr && at->ifa_addr->sa_family == AF_INET && interface == at->ifa_name)
                    host = dotted(at->ifa_addr);
            freeifaddrs(all);
        }
        if (host.empty()) throw wrong("DMLC_INTERFACE", "a network interface with an IPv4 address", interface);
        return host;
    }
    static std::string host_towards(const std::string &root, int port) {
        addrinfo wanted = addrinfo(), *found = nullptr;
        wanted.ai_family = AF_INET;
        wanted.ai_socktype = SOCK_DGRAM;
        if (getaddrinfo(root.c_str(), std::to_string(port).c_str(), &wanted, &found) != 0)
            throw wrong("DMLC_PS_ROOT_URI", "the host of the scheduler", root);
        sockaddr_in own = sockaddr_in();
        socklen_t size = sizeof own;
        // A datagram socket that is connected sends nothing, but knows its own address.
        const int probe = socket(AF_INET, SOCK_DGRAM, 0);
        const bool is_known = probe >= 0 && connect(probe, found->ai_addr, found->ai_addrlen) == 0 &&
                              getsockname(probe, reinterpret_cast<sockaddr *>(&own), &size) == 0;
        if (probe >= 0) close(probe);
        freeaddrinfo(found);
        if (!is_known) throw wrong("DMLC_PS_ROOT_URI", "a host with a route to it, or DMLC_NODE_HOST", root);
        return dotted(reinterpret_cast<sockaddr *>(&own));
    }
    static std::string dotted(const sockaddr *address) {
        char text[INET_ADDRSTRLEN] = "";
        inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in *>(address)->sin_addr, text, sizeof text);
        return text;
    }
};

}  // namespace internal
}  // namespace ps

#endif  // PS_INTERNAL_SETTINGS_H_
