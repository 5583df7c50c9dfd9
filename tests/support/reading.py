"""How long a page is: words of prose, visible lines of code, figures, exercises, and the minutes that they take.

What is folded or not on the page is not counted: solutions, proofs under a bar, drawing and bookkeeping cells. A folded
answer of a prediction is, as it opens while one reads. Exercises have minutes of their own, by their grade.
"""

import re
from dataclasses import dataclass
from math import ceil

WORDS_A_MINUTE, LINES_A_MINUTE, MINUTES_A_FIGURE = 200, 6, 2
MINUTES_AN_EXERCISE = {1: 2, 2: 6, 3: 10}  # by its stars, as second readers needed
TIME = re.compile(r"^Reading time: \d+ minutes(?:, and \d+ for the exercises)?\.$", re.MULTILINE)


@dataclass(frozen=True)
class Length:
    words: int
    lines: int
    figures: int
    exercises: int
    exercise_minutes: int

    @property
    def minutes(self):
        """Of reading, without the exercises."""
        words, lines = self.words / WORDS_A_MINUTE, self.lines / LINES_A_MINUTE
        return ceil(words + lines + MINUTES_A_FIGURE * self.figures)

    @property
    def sentence(self):
        """The line that a page has under its first paragraph."""
        apart = f", and {self.exercise_minutes} for the exercises" if self.exercises else ""
        return f"Reading time: {self.minutes} minutes{apart}."


def read_in_passing(passage):
    """True for a passage that is read from the top of the page to its end, on the way."""
    return not passage.inside & {"exercise", "solution"} and not {"prf:proof", "folded"} <= passage.inside


def length(page):
    pictures = sum(part.type == "image" for passage in page.passages for part in passage.parts)
    return Length(
        words=sum(passage.words for passage in page.passages if read_in_passing(passage)),
        lines=sum(len(cell.code_lines) for cell in page.lessons),
        figures=len(page.drawings) + len(page.named("figure")) + pictures,
        exercises=len(page.named("exercise")),
        exercise_minutes=sum(MINUTES_AN_EXERCISE.get(e.argument.count("★"), 0) for e in page.named("exercise")),
    )


def with_reading_time(page):
    """Text of a page whose line "Reading time: ..." is right; unchanged if it has none in this form."""
    return TIME.sub(length(page).sentence, page.text, count=1)
