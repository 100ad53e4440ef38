#!/bin/sh
# Runs ps_bench built with Keyrange and with ps-lite in turn, and prints medians and their ratio (over 1 is better, for times too).
#   sh ps_compare.sh OURS THEIRS [TURNS [SECONDS [PART]...]]        see ps_bench.cc for how they are built and for the parts
set -e
ours=$1 theirs=$2 turns=${3:-3} seconds=${4:-0.3}
shift $(($# < 4 ? $# : 4))
out=$(mktemp -d)
trap 'rm -r "$out"' EXIT
for turn in $(seq "$turns"); do
    "$ours" "$seconds" "$@" >>"$out/ours"
    "$theirs" "$seconds" "$@" >>"$out/theirs" 2>"$out/errors" || { cat "$out/errors" >&2; exit 1; }
done
awk -F'\t' '
function median(list,    numbers, count, i, j, swap) {
    count = split(list, numbers, " ")
    for (i = 1; i <= count; ++i) for (j = i + 1; j <= count; ++j)
        if (numbers[j] + 0 < numbers[i] + 0) { swap = numbers[i]; numbers[i] = numbers[j]; numbers[j] = swap }
    return numbers[int((count + 1) / 2)]
}
FNR == NR { if (!($1 in ours)) order[++cases] = $1; ours[$1] = ours[$1] " " $2; unit[$1] = $3; next }
{ theirs[$1] = theirs[$1] " " $2 }
END {
    printf "%-56s %10s %10s\n", "", "keyrange", "ps-lite"
    for (i = 1; i <= cases; ++i) {
        what = order[i]; a = median(ours[what]); b = median(theirs[what])
        printf "%-56s %10s %10s %-9s %7.1f x\n", what, a, b, unit[what], unit[what] == "us" ? b / a : a / b
    }
}' "$out/ours" "$out/theirs"
