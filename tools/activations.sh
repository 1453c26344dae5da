#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Activations in few bits, and the transforms that make room for them, side by side on one model: the table of
# docs/results-sq.md, section "Activations".
#   tools/activations.sh MODEL CALIBRATION TEXT FOLDER [ROW...]
# A row is METHOD/FORMAT/ACT/TRANSFORM[/MASK], such as gptq/int4-g128/int8-row/smooth+hadamard: METHOD rtn (ranges) or
# search (rtn with the scale search) or gptq, ACT a format of --act or none. One JSON file for each row is kept in
# FOLDER; rows that have one are not run again. Without ROW all of METHODS, WIDTHS and BANKS. SAMPLES, SEQLEN and TOKENS
# change what is spent, FLAGS what quantize gets besides ("--refine 0"); needs python3 to read JSON, and gnuplot for the
# pictures. A table in Markdown goes to stdout, the same numbers with predicted and measured throughput to
# FOLDER/activations.csv, the fronts to FOLDER/activations-METHOD.svg.
set -euo pipefail
[ $# -ge 4 ] || { echo "usage: tools/activations.sh MODEL CALIBRATION TEXT FOLDER [ROW...]" >&2; exit 2; }
model=$1 calibration=$2 text=$3 folder=$4
shift 4
lowbit=${LOWBIT:-$(dirname "$0")/../build/lowbit}
read -ra more <<<"${FLAGS:-}"
mkdir -p "$folder"
trap 'exit 130' INT TERM

flags() {
    local method format act transform mask
    local row=${1//sq8\//sq8:}
    IFS=/ read -r method format act transform mask <<<"${row//sq4\//sq4:}"
    case $method in
    rtn) printf '%s\n' --method rtn --fit range ;;
    search) printf '%s\n' --method rtn --fit search ;;
    gptq) printf '%s\n' --method gptq ;;
    *) echo "tools/activations.sh: no row begins with $method" >&2; exit 2 ;;
    esac
    printf '%s\n' --format "$format" --transform "${transform:-none}"
    [ "$act" = none ] || printf '%s\n' --act "${act/:/\/}"
    [ -z "${mask:-}" ] || printf '%s\n' --act-mask "$mask"
}

if [ $# -eq 0 ]; then
    for method in ${METHODS:-rtn gptq}; do
        for transform in none smooth awq; do
            set -- "$@" "$method/int4-g128/none/$transform" "$method/int8-row/int8-row/$transform" \
                "$method/int4-g128/int8-row/$transform"
        done
        for transform in none hadamard smooth smooth+hadamard; do
            set -- "$@" "$method/int4-g128/int4-row/$transform" "$method/int4-row/int4-row/$transform"
        done
        for bank in ${BANKS:-16 32 64}; do
            for share in 0.5 0.75 0.875 0.9375; do
                for width in ${WIDTHS:-8/4 8/3 8/2}; do
                    set -- "$@" "$method/int4-g128/sq$width-b$bank-s$share/none"
                done
                set -- "$@" "$method/int4-g128/sq8/4-b$bank-s$share-dynamic/none"
            done
            set -- "$@" "$method/int4-g128/sq8/4-b$bank-s0.75/smooth" "$method/int4-g128/sq8/4-b$bank-s0.75/none/signed" \
                "$method/int4-g128/sq8/4-b$bank-s0.75/none/absolute"
        done
    done
fi
for row; do
    name=${row//\//,}
    [ -s "$folder/$name.json" ] && continue
    mapfile -t arguments < <(flags "$row")
    [ ${#arguments[@]} -gt 0 ] || exit 2
    rm -rf "$folder/out" "$folder/out.partial"
    "$lowbit" quantize "$model" -o "$folder/out" --calib "$calibration" --samples "${SAMPLES:-64}" \
        --seqlen "${SEQLEN:-256}" --eval-text "$text" --eval-tokens "${TOKENS:-8192}" --json -q \
        "${arguments[@]}" "${more[@]}" >"$folder/$name.tmp"
    mv "$folder/$name.tmp" "$folder/$name.json"
done
rm -rf "$folder/out" "$folder/out.partial"

# Predicted and measured throughput of W8A8, W4A8, W4A4 and both widths together.
"$lowbit" formats --hw --json -q >"$folder/hardware.json"

python3 - "$folder" "$@" <<'EOF_PYTHON'
import csv, json, re, sys
folder = sys.argv[1]
here = json.load(open(folder + "/hardware.json"))["throughput"]
measured = {s["low_share"]: s["measured"] for s in here["speedups"]}
w8a8, w4a4 = (here[k + "_products_per_s"] / here["w4a8_products_per_s"] for k in ("w8a8", "w4a4"))

# (family, bits of an input, products over those of W4A8 predicted by units side by side, the low one H / L times as fast
# and over every place, the same measured here); "-" where that says nothing.
def cost(weights, act):
    sq = re.match(r"sq(\d)/(\d)-b(\d+)-s([0-9.]+)(-dynamic)?", act)
    if sq:
        high, low, share = int(sq[1]), int(sq[2]), float(sq[4])
        bits = share * low + (1 - share) * high
        if sq[5]: # a mark for each number, and no kernel that would pick them
            return "%d/%d, dynamic" % (high, low), bits + 1, min(high / low, 1 / (1 - share)), "-"
        return "%d/%d, static" % (high, low), bits, min(high / low, 1 / (1 - share)), measured.get(share, "-")
    wide = weights.startswith("int8")
    return {"int8-row": ("integers", 8, 1, w8a8 if wide else 1), "int4-row": ("integers", 4, 2, w4a4)}.get(act)

table = csv.writer(open(folder + "/activations.csv", "w"), lineterminator="\n")
table.writerow(["row", "bits_per_weight", "perplexity", "perplexity_stderr", "kl_mean", "kl_stderr", "top1_agreement",
                "input_bits", "predicted_speedup", "measured_speedup"])
print("| row | bits/weight in layers | perplexity | KL mean | top-1 % |")
print("|---|---|---|---|---|")
fronts = {}
for row in sys.argv[2:]:
    d = json.load(open("%s/%s.json" % (folder, row.replace("/", ","))))
    e = d["eval"]
    method, weights, act, transform, *mask = re.sub(r"sq(\d)/", r"sq\1:", row).split("/")
    price = cost(weights, act.replace(":", "/"))
    table.writerow([row, d["quantized_bits_per_weight"]] + [e[k] for k in (
        "perplexity", "perplexity_stderr", "kl_mean", "kl_stderr", "top1_agreement")] + list(price[1:] if price else []))
    print("| %s | %.3f | %.3f ± %.3f | %.4f ± %.4f | %.1f |" % (
        row, d["quantized_bits_per_weight"], e["perplexity"], e["perplexity_stderr"], e["kl_mean"], e["kl_stderr"],
        e["top1_agreement"]))
    if price and not mask and transform in ("none", "hadamard") and weights != "int4-row":
        family = price[0] if transform == "none" else "integers, hadamard"
        fronts.setdefault(method, []).append("\t".join(str(x) for x in (family, e["kl_mean"]) + price[1:]))
for method, lines in fronts.items():
    with open("%s/fronts-%s" % (folder, method), "w") as f:
        f.write("family\tkl\tbits of an input\t+predicted: products over W4A8's\t+measured: products over W4A8's\n")
        f.writelines(line + "\n" for line in lines)
EOF_PYTHON
for method in rtn gptq; do
    [ ! -s "$folder/fronts-$method" ] || "$(dirname "$0")/plot_fronts.sh" "Inputs of two widths beside integers, weights int4-g128, $method" \
        "$folder/activations-$method.svg" <"$folder/fronts-$method"
done
