"""Sentences, and whether one states something: a rule of thumb that tells "The student gains most" from a heading.

A sentence that states something has to have a finite verb before its first colon or semicolon, outside brackets. A word
is taken for one if it is

- a form of be, have or do, or a modal verb;
- one of the VERBS below, unless what stands before it makes it a noun or an infinitive (a determiner, a preposition, a
  possessive, the first place), or what stands behind it does ("gains of", "falls against");
- any other word behind a noun and before a determiner: "students overrule their teachers".

The first verb behind "that", "who", "where", "when", "as" and the like belongs to their clause and does not count; the
same holds for a sentence that begins with "how" or "what".

The rule has no grammar: a rare verb before a preposition is not seen (add it to VERBS), and some noun phrases pass.
"""

import re

BEGINS = re.compile(r"(?:(?<=[.!?])|(?<=[.!?][*\")”]))[ \n]+(?=[*\"(“]*[A-Z${`])")  # with a capital, a formula, a role


def sentences(text):
    """The sentences of a paragraph, as they are written."""
    return BEGINS.split(re.sub(r"\b(al|e\.g|i\.e|cf|vs)\.\s", "\\1.\N{NO-BREAK SPACE}", text))


def words(text):
    return frozenset(text.split())


AUXILIARY = words("is are was were has have had does do did can cannot could may might must will would should")
VERBS = words(
    "adds agrees answers appears approaches averages balances beats becomes begins belongs bends brings buys"
    " changes chooses comes contains converges copies corrects costs counts crosses cuts decides decreases"
    " depends destroys determines differs disagrees disappears diverges dominates doubles drops ends equals"
    " errs exceeds explains fails falls fits flattens follows gains gives goes grows halves happens helps hides"
    " hits holds hurts imitates improves increases keeps knows lags leads learns leaves lets lies limits loses"
    " lowers makes marks matches matters meets misses moves narrows needs outperforms overfits overlaps"
    " overrules overtakes passes pays peaks picks points predicts raises ranks reaches recovers reduces remains"
    " removes repairs returns rises says sees separates shares shows shrinks sits splits spreads stands starts"
    " states stays steepens stops suffers survives takes tells tilts tracks trades turns undoes uses vanishes"
    " widens wins works worsens"
)
# of a plural subject; not those that look like participles
PLURAL = {re.sub(r"(?<=go|do)es$|(?<=ss|sh|ch)es$|s$", "", re.sub(r"ies$", "ys", verb)) for verb in VERBS}
PLURAL -= words("cut hit hurt split spread become come")
PLURAL_NOUN = words("they we most many few some that which who")  # and what ends with s, or stands behind "and"
DETERMINERS = words("a an the its their this these those no any each every all none nothing both only")
PREPOSITIONS = words(
    "of in by with for from to on over against per as at into than across after before between under above below behind"
    " without within through until since during along towards near beyond about around versus minus plus"
)
NOUN_BEFORE = DETERMINERS | PREPOSITIONS
NOUN_BEFORE |= words(
    "and or but not own more less most least largest smallest mean total small large first second last two"
)
QUESTION = words("what how why when where whether which who")
CLAUSE = words("that which who whom whose where when while if what whatever how why because although as than")
WORD = re.compile(r"[A-Za-zÀ-ÿ]+(?:['’-][A-Za-z]+)*['’]?|[,—–]")


def words_of(sentence):
    text = re.sub(
        r"\{[\w:]+\}`[^`]*`", "two", re.sub(r"\([^()]*\)", "", sentence)
    )  # a computed number stands before a noun
    main = re.split(r"[:;](?!\w)", re.sub(r"\$[^$]*\$", "X", text))[0]
    return [word.lower() for word in WORD.findall(main)]


def is_verb(before, word, behind, parted):
    """`before`: the two words before it, the nearer one last; `parted`: a clause stands between it and its subject."""
    conjunction, noun = before
    if word in AUXILIARY or (noun == "it" and word.endswith("s")):
        return True
    plural = parted or noun.endswith("s") or noun in PLURAL_NOUN or conjunction == "and"
    if not noun or noun in (NOUN_BEFORE | AUXILIARY) - PLURAL_NOUN or noun.endswith(("'", "’", "'s", "’s")):
        return False
    if word in VERBS or (plural and word in PLURAL):
        return behind not in ("of", "against", "per", "over")
    known = DETERMINERS | NOUN_BEFORE | CLAUSE
    rare = word.isalpha() and noun.isalpha() and not {word, noun} & known and not word.endswith(("ed", "ing", "ly"))
    return rare and word.endswith("s") != noun.endswith("s") and behind in DETERMINERS


def has_finite_verb(sentence):
    """True if a verb of it stands outside its clauses, each of which takes the first verb behind its conjunction."""
    words, clause, parted = ["", "", *words_of(sentence), ""], False, False
    for i in range(2, len(words) - 1):
        if words[i] in CLAUSE or (i == 2 and words[i] in QUESTION):
            clause = True
        elif is_verb(words[i - 2 : i], words[i], words[i + 1], parted):
            if not clause:
                return True
            clause, parted = False, True
    return False
