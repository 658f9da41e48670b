"""Tokens: a model's vocabulary, spelled so that tokenizers agree, and the choice of K of its rows.

    load_vocabulary(checkpoint)   -> Vocabulary        which bytes each id stands for
    read_ranking / rank_by_count  -> Ranking           from most to least frequent (count_tokens)
    rarest / sampled / shared     -> TokenSelection    the rows that enter the invariant terms
    common                        -> TokenSelection    the rows that most vocabularies have, by a public list

To add a format, add a module to `readers/`.
"""

from huref.model.tokens.counting import CountOptions, TokenCounts, count_tokens
from huref.model.tokens.loading import lent_tokenizer, load_encoder, load_vocabulary
from huref.model.tokens.ranking import Ranking, rank_by_count, read_ranking, write_ranking
from huref.model.tokens.selection import MIN_TOKENS, TokenSelection, common, rarest, sampled, shared
from huref.model.tokens.vocabulary import Vocabulary

__all__ = [
    "MIN_TOKENS",
    "CountOptions",
    "Ranking",
    "TokenCounts",
    "TokenSelection",
    "Vocabulary",
    "common",
    "count_tokens",
    "lent_tokenizer",
    "load_encoder",
    "load_vocabulary",
    "rank_by_count",
    "rarest",
    "read_ranking",
    "sampled",
    "shared",
    "write_ranking",
]
