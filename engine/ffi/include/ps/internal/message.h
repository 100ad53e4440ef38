// Nodes and messages as programs see them.
#ifndef PS_INTERNAL_MESSAGE_H_
#define PS_INTERNAL_MESSAGE_H_

#include "ps/sarray.h"

namespace ps {

enum DataType { CHAR, INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64, FLOAT, DOUBLE, OTHER };

static const char *const DataTypeName[] = {"CHAR",  "INT8",   "INT16",  "INT32", "INT64",  "UINT8",
                                           "UINT16", "UINT32", "UINT64", "FLOAT", "DOUBLE", "OTHER"};

template <typename V, typename W>
inline bool SameType() {
    return std::is_same<typename std::remove_cv<V>::type, W>::value;
}

// The type's number; plain char and all others are OTHER.
template <typename V>
DataType GetDataType() {
    if (SameType<V, int8_t>()) return INT8;
    if (SameType<V, int16_t>()) return INT16;
    if (SameType<V, int32_t>()) return INT32;
    if (SameType<V, int64_t>()) return INT64;
    if (SameType<V, uint8_t>()) return UINT8;
    if (SameType<V, uint16_t>()) return UINT16;
    if (SameType<V, uint32_t>()) return UINT32;
    if (SameType<V, uint64_t>()) return UINT64;
    if (SameType<V, float>()) return FLOAT;
    if (SameType<V, double>()) return DOUBLE;
    return OTHER;
}

struct Node {
    enum Role { SERVER, WORKER, SCHEDULER };
    static const int kEmpty = std::numeric_limits<int>::max();

    Role role = WORKER;
    int id = kEmpty;
    int customer_id = 0;
    std::string hostname;
    int port = kEmpty;
    bool is_recovery = false;

    std::string ShortDebugString() const {
        std::string text(role == SERVER ? "S" : role == WORKER ? "W" : "H");
        return id == kEmpty ? text : text + '[' + std::to_string(id) + ']';
    }
    std::string DebugString() const {
        std::ostringstream text;
        text << "role=" << (role == SERVER ? "server" : role == WORKER ? "worker" : "scheduler");
        if (id != kEmpty) text << ", id=" << id;
        text << ", customer_id=" << customer_id << ", ip=" << hostname;
        if (port != kEmpty) text << ", port=" << port;
        text << ", is_recovery=" << is_recovery;
        return text.str();
    }
};

struct Control {
    enum Command { EMPTY, TERMINATE, ADD_NODE, BARRIER, ACK, HEARTBEAT };
    bool empty() const { return cmd == EMPTY; }

    Command cmd = EMPTY;
    std::vector<Node> node;
    int barrier_group = 0;
    uint64_t msg_sig = 0;
};

struct Meta {
    static const int kEmpty = std::numeric_limits<int>::max();

    int head = kEmpty;
    int app_id = kEmpty;
    int customer_id = kEmpty;
    int timestamp = kEmpty;
    int sender = kEmpty;
    int recver = kEmpty;
    bool request = false;
    bool push = false;
    bool pull = false;
    bool simple_app = false;
    std::string body;
    std::vector<DataType> data_type;
    Control control;
    int data_size = 0;
    int priority = 0;

    std::string DebugString() const {
        std::ostringstream text;
        text << (request ? "request" : "response") << " of " << sender << " to " << recver << ", app_id=" << app_id
             << ", customer_id=" << customer_id << ", timestamp=" << timestamp << ", head=" << head << ", push=" << push
             << ", pull=" << pull << ", simple_app=" << simple_app << ", " << data_size << " bytes";
        return text.str();
    }
};

struct Message {
    Meta meta;
    std::vector<SArray<char>> data;

    template <typename V>
    void AddData(const SArray<V> &values) {
        meta.data_type.push_back(GetDataType<V>());
        SArray<char> bytes(values);
        meta.data_size += static_cast<int>(bytes.size());
        data.push_back(bytes);
    }

    std::string DebugString() const { return meta.DebugString(); }
};

}  // namespace ps

#endif  // PS_INTERNAL_MESSAGE_H_
