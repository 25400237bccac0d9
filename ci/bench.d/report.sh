# shellcheck shell=bash disable=SC2034,SC2154 # variables of the other parts
# From the lines of $work/results to JSON or Markdown.

report() {
    local way
    jq -s --arg version "$("$binary" --version)" --argjson processors "$(nproc)" -f "$here/bench.d/summary.jq" "$work/results" >"$work/summary" || return
    if [[ $output == json ]]; then
        cat "$work/summary"
    else
        for way in "${ways[@]}" save-load-only direct; do jq -nc --arg way "$way" --arg text "$(way_text "$way")" '{($way): $text}'; done >"$work/texts"
        jq -r --slurpfile texts <(jq -s add "$work/texts") -f "$here/bench.d/table.jq" "$work/summary"
    fi
}
