// SimpleApp: an integer and a string to a node or a group, and an answer from each.
#ifndef PS_SIMPLE_APP_H_
#define PS_SIMPLE_APP_H_

#include "ps/internal/customer.h"

namespace ps {

struct SimpleData {
    int head;
    std::string body;
    int sender;
    int timestamp;
    int customer_id;
};

// KVServer hides set_request_handle and Response, which programs reach by a cast.
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverloaded-virtual"
#endif
class SimpleApp {
public:
    using Handle = std::function<void(const SimpleData &received, SimpleApp *app)>;

    explicit SimpleApp(int app_id, int customer_id) : SimpleApp() {
        obj_ = new Customer(app_id, customer_id, [this](const Message &message) { Process(message); });
    }
    virtual ~SimpleApp() { delete obj_; }
    SimpleApp(const SimpleApp &) = delete;
    SimpleApp &operator=(const SimpleApp &) = delete;

    // To a node or the sum of groups; the timestamp for Wait().
    virtual int Request(int head, const std::string &body, int recv_id) {
        Message message;
        message.meta.head = head;
        message.meta.body = body;
        message.meta.timestamp = obj_->NewRequest(recv_id);
        message.meta.request = true;
        Address(&message.meta, obj_->customer_id());
        obj_->member().post(recv_id, message);
        return message.meta.timestamp;
    }

    // Until every node of the request has answered, and the response handle has run.
    virtual void Wait(int timestamp) { obj_->WaitRequest(timestamp); }

    // Answers a request, now or later, from any thread.
    virtual void Response(const SimpleData &request, const std::string &body = "") {
        Message message;
        message.meta.head = request.head;
        message.meta.body = body;
        message.meta.timestamp = request.timestamp;
        message.meta.request = false;
        Address(&message.meta, request.customer_id);
        obj_->member().post(request.sender, message);
    }

    virtual void set_request_handle(const Handle &handle) {
        std::lock_guard<std::mutex> lock(handles_mutex_);
        request_handle_ = handle;
    }
    virtual void set_response_handle(const Handle &handle) {
        std::lock_guard<std::mutex> lock(handles_mutex_);
        response_handle_ = handle;
    }
    virtual Customer *get_customer() { return obj_; }

protected:
    SimpleApp()
        : obj_(nullptr), request_handle_([](const SimpleData &request, SimpleApp *app) { app->Response(request); }),
          response_handle_([](const SimpleData &, SimpleApp *) {}) {}

    virtual void Process(const Message &message) {
        const Meta &meta = message.meta;
        const SimpleData data = {meta.head, meta.body, meta.sender, meta.timestamp, meta.customer_id};
        Handle handle;
        {
            std::lock_guard<std::mutex> lock(handles_mutex_);
            handle = meta.request ? request_handle_ : response_handle_;
        }
        CHECK(handle) << "SimpleApp: no handle for what came";
        handle(data, this);
        if (!meta.request) obj_->AddResponse(meta.timestamp);
    }

    Customer *obj_;

private:
    void Address(Meta *meta, int customer_id) {
        meta->app_id = obj_->app_id();
        meta->customer_id = customer_id;
        meta->simple_app = true;
    }

    std::mutex handles_mutex_;
    Handle request_handle_, response_handle_;
};
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

}  // namespace ps

#endif  // PS_SIMPLE_APP_H_
