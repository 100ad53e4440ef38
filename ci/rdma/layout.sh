# Sourced by ci/rdma.sh: holds the declarations of transport/src/verbs/ffi.rs to the real header.
#
# The sizes and offsets asserted there become static assertions of C, compiled against Debian's libibverbs-dev.

check_layout() {
    command -v cc >/dev/null || { echo "skipped: no C compiler, so the layouts are not compared with verbs.h"; return 0; }
    unpack headers libibverbs-dev || { echo "skipped: libibverbs-dev cannot be fetched"; return 0; }
    {
        echo '#include <stddef.h>'
        echo '#include <infiniband/verbs.h>'
        # "offsets!(Wc: status 8, opcode 12);" and "assert!(size_of::<Wc>() == 48);", a type's name made the C one.
        sed -nE 's/^offsets!\(([A-Za-z]+): (.*)\);$/\1 \2/p; s/^ *assert!\(size_of::<([A-Za-z]+)>\(\) == ([0-9]+)\);$/\1 = \2/p' \
            transport/src/verbs/ffi.rs | awk '
            function c_name(type) {
                gsub(/[A-Z]/, "_&", type)
                return "struct ibv" tolower(type)
            }
            BEGIN {
                # Members of unions have longer names in C.
                path["remote_addr"] = "wr.rdma.remote_addr"; path["rkey"] = "wr.rdma.rkey"
                path["_qp_type"] = "qp_type"; path["_bind_or_tso"] = "bind_mw"
            }
            $2 == "=" { printf "_Static_assert(sizeof(%s) == %s, \"size of %s\");\n", c_name($1), $3, $1; next }
            {
                type = $1
                sub(/^[^ ]* /, "")
                count = split($0, fields, /, /)
                for (i = 1; i <= count; i++) {
                    split(fields[i], field, " ")
                    name = type == "SendWr" && field[1] in path ? path[field[1]] : field[1]
                    printf "_Static_assert(offsetof(%s, %s) == %s, \"%s.%s\");\n", c_name(type), name, field[2], type, field[1]
                }
            }'
    } >"$cache/layout.c"
    local count
    count=$(grep -c _Static_assert "$cache/layout.c")
    ((count > 60)) || { echo "error: only $count layout assertions found in ffi.rs"; return 1; }
    cc -fsyntax-only -I "$cache/headers/usr/include" "$cache/layout.c" || return 1
    echo "$count sizes and offsets agree with verbs.h"
}
