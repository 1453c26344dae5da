#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# models/tiny/generated.txt: what the model wrote when it was made, drawn from its whole distribution: a text without
# what is unlikely calibrates much worse (docs/experiments.md). The same bytes again on a processor with AVX2.
#   models/tiny/generate.sh >generated.txt
set -euo pipefail
cd "$(dirname "$0")"
LOWBIT=${LOWBIT:-../../build/lowbit}
prompts=('Once upon a time' 'Alice' 'The captain' '"My dear Watson," said Holmes,' 'The old woman' 'The Princess'
    'It was a dark night, and' 'The children' '"What is the matter?" said' 'The little boy' 'In the morning'
    'The wolf' 'My father' 'The ship' 'When the sun' 'Peter' 'The old house' 'Then the king' 'One day' 'The Wizard')
for seed in 1 2 3 4 5; do
    for prompt in "${prompts[@]}"; do
        "$LOWBIT" run . -p "$prompt" -n 240 --seed "$seed" --temp 1 --top-k 0 --top-p 1 --min-p 0 \
            --ignore-end --echo -q --threads 1
        printf '\n<|endoftext|>\n'
    done
done
