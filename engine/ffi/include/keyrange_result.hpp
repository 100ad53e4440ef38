// keyrange_result.hpp: how calls of the C++ layer end. Included by keyrange.hpp.
#ifndef KEYRANGE_RESULT_HPP
#define KEYRANGE_RESULT_HPP

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>

#include "keyrange.h"

namespace keyrange {

using milliseconds = std::chrono::milliseconds;

/// How long calls wait unless told otherwise.
constexpr milliseconds patience{60000};

/// Why a call failed.
class error : public std::runtime_error {
public:
    error(kr_status status, const std::string &text) : std::runtime_error(text), status_(status) {}
    kr_status status() const noexcept { return status_; }

private:
    kr_status status_;
};

/// The value of a call, or why it failed.
template <class T = std::monostate>
class [[nodiscard]] result {
public:
    result(T value) : state_(std::move(value)) {}
    result(error failure) : state_(std::move(failure)) {}

    explicit operator bool() const noexcept { return state_.index() == 0; }
    kr_status status() const noexcept { return *this ? KR_OK : std::get<1>(state_).status(); }
    std::string message() const { return *this ? std::string() : std::get<1>(state_).what(); }

    /// The value; throws the error if there is none (without exceptions, the program ends).
    T value() &&
    {
        if (!*this)
            fail();
        return std::get<0>(std::move(state_));
    }

private:
    [[noreturn]] void fail() const
    {
#if defined(__cpp_exceptions)
        throw std::get<1>(state_);
#else
        std::abort();
#endif
    }
    std::variant<T, error> state_;
};

using outcome = result<>;

namespace detail {

inline error last(kr_status status) { return error(status, kr_last_error()); }

inline outcome done(kr_status status)
{
    if (status == KR_OK)
        return outcome(std::monostate());
    return outcome(last(status));
}

inline std::uint32_t limit(milliseconds time)
{
    return time.count() < 0 ? 0 : time.count() > UINT32_MAX ? UINT32_MAX : static_cast<std::uint32_t>(time.count());
}

} // namespace detail

} // namespace keyrange

#endif
