// Checks and log lines in the manner of dmlc's logging.h, under its include guard: where dmlc-core's own header came first, that
// one is used, and this one adds nothing.
#ifndef DMLC_LOGGING_H_
#define DMLC_LOGGING_H_

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <iostream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace dmlc {

// What a failed CHECK and LOG(FATAL) throw.
struct Error : public std::runtime_error {
    explicit Error(const std::string &text) : std::runtime_error(text) {}
};

}  // namespace dmlc

#if defined(USE_GLOG) && USE_GLOG
#include <glog/logging.h>

namespace dmlc {
inline void InitLogging(const char *argv0) { google::InitGoogleLogging(argv0); }
}  // namespace dmlc

#else

namespace dmlc {

inline void InitLogging(const char *) {}

// One line to stderr, written when the statement ends.
class LogMessage {
public:
    LogMessage(const char *file, int line, const char *level = "") { head(stream_, file, line, level); }
    LogMessage(const LogMessage &) = delete;
    LogMessage &operator=(const LogMessage &) = delete;
    ~LogMessage() {
        stream_ << '\n';
        std::fputs(stream_.str().c_str(), stderr);
    }
    std::ostream &stream() { return stream_; }

    static void head(std::ostream &to, const char *file, int line, const char *level) {
        char clock[16];
        std::time_t now = std::time(nullptr);
        std::tm parts;
        localtime_r(&now, &parts);
        std::strftime(clock, sizeof clock, "%H:%M:%S", &parts);
        to << '[' << clock << "] " << file << ':' << line << ": " << level;
    }

private:
    std::ostringstream stream_;
};

// The same, and then throws Error with the text.
class LogMessageFatal {
public:
    LogMessageFatal(const char *file, int line) { LogMessage::head(stream_, file, line, ""); }
    LogMessageFatal(const LogMessageFatal &) = delete;
    LogMessageFatal &operator=(const LogMessageFatal &) = delete;
    ~LogMessageFatal() noexcept(false) {
        std::string text = stream_.str();
        std::fputs((text + "\n").c_str(), stderr);
        throw Error(text);
    }
    std::ostream &stream() { return stream_; }

private:
    std::ostringstream stream_;
};

// Makes both branches of a conditional void.
class LogMessageVoidify {
public:
    void operator&(std::ostream &) {}
};

template <typename T>
inline T &&CheckNotNull(const char *file, int line, const char *what, T &&pointer) {
    if (pointer == nullptr) LogMessageFatal(file, line).stream() << "Check  notnull: " << what << ' ';
    return static_cast<T &&>(pointer);
}

// The text of a comparison that failed, or null.
#define DMLC_DEFINE_CHECK_(name, op)                                                           \
    template <typename X, typename Y>                                                          \
    inline std::unique_ptr<std::string> LogCheck##name(const X &x, const Y &y) {               \
        if (x op y) return nullptr;                                                            \
        std::ostringstream text;                                                               \
        text << " (" << x << " vs. " << y << ") ";                                             \
        return std::unique_ptr<std::string>(new std::string(text.str()));                      \
    }
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-compare"
#endif
DMLC_DEFINE_CHECK_(_LT, <)
DMLC_DEFINE_CHECK_(_GT, >)
DMLC_DEFINE_CHECK_(_LE, <=)
DMLC_DEFINE_CHECK_(_GE, >=)
DMLC_DEFINE_CHECK_(_EQ, ==)
DMLC_DEFINE_CHECK_(_NE, !=)
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif
#undef DMLC_DEFINE_CHECK_

}  // namespace dmlc

#define CHECK_BINARY_OP(name, op, x, y)                                                                \
    if (std::unique_ptr<std::string> dmlc_failed_ = ::dmlc::LogCheck##name(x, y))                      \
    ::dmlc::LogMessageFatal(__FILE__, __LINE__).stream()                                               \
        << "Check failed: " << #x " " #op " " #y << *dmlc_failed_ << ": "

#define CHECK(x) \
    if (!(x)) ::dmlc::LogMessageFatal(__FILE__, __LINE__).stream() << "Check failed: " #x << ": "
#define CHECK_LT(x, y) CHECK_BINARY_OP(_LT, <, x, y)
#define CHECK_GT(x, y) CHECK_BINARY_OP(_GT, >, x, y)
#define CHECK_LE(x, y) CHECK_BINARY_OP(_LE, <=, x, y)
#define CHECK_GE(x, y) CHECK_BINARY_OP(_GE, >=, x, y)
#define CHECK_EQ(x, y) CHECK_BINARY_OP(_EQ, ==, x, y)
#define CHECK_NE(x, y) CHECK_BINARY_OP(_NE, !=, x, y)
#define CHECK_NOTNULL(x) ::dmlc::CheckNotNull(__FILE__, __LINE__, #x, x)

#if defined(NDEBUG)
#define DCHECK_ON_ 0
#else
#define DCHECK_ON_ 1
#endif
#define DCHECK(x) while (DCHECK_ON_ && false) CHECK(x)
#if DCHECK_ON_
#undef DCHECK
#define DCHECK(x) CHECK(x)
#define DCHECK_LT(x, y) CHECK((x) < (y))
#define DCHECK_GT(x, y) CHECK((x) > (y))
#define DCHECK_LE(x, y) CHECK((x) <= (y))
#define DCHECK_GE(x, y) CHECK((x) >= (y))
#define DCHECK_EQ(x, y) CHECK((x) == (y))
#define DCHECK_NE(x, y) CHECK((x) != (y))
#else
#define DCHECK_LT(x, y) DCHECK((x) < (y))
#define DCHECK_GT(x, y) DCHECK((x) > (y))
#define DCHECK_LE(x, y) DCHECK((x) <= (y))
#define DCHECK_GE(x, y) DCHECK((x) >= (y))
#define DCHECK_EQ(x, y) DCHECK((x) == (y))
#define DCHECK_NE(x, y) DCHECK((x) != (y))
#endif

#define LOG_INFO ::dmlc::LogMessage(__FILE__, __LINE__)
#define LOG_WARNING ::dmlc::LogMessage(__FILE__, __LINE__, "Warning: ")
#define LOG_ERROR ::dmlc::LogMessage(__FILE__, __LINE__, "Error: ")
#define LOG_FATAL ::dmlc::LogMessageFatal(__FILE__, __LINE__)
#define LOG_QFATAL LOG_FATAL

#define LOG(severity) LOG_##severity.stream()
#define LG LOG_INFO.stream()
#define LOG_IF(severity, condition) !(condition) ? (void)0 : ::dmlc::LogMessageVoidify() & LOG(severity)
#define VLOG_IS_ON(x) false
#define VLOG(x) LOG_IF(INFO, VLOG_IS_ON(x))
#if DCHECK_ON_
#define DLOG(severity) LOG_IF(severity, true)
#else
#define DLOG(severity) LOG_IF(severity, false)
#endif

#endif  // USE_GLOG

#ifndef LL
#define LL LOG(ERROR)
#endif

#endif  // DMLC_LOGGING_H_
