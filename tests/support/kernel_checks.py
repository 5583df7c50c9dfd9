"""What is asked of a chapter in its own kernel, once its last cell has run: chapter_run.py calls it from there.

`keep` is called between two cells and only takes note, so that the chapter's outputs are those of the chapter alone.
"""

import ast
import linecache
import os
import sys
from contextlib import contextmanager

import IPython

PLACES = {}  # the namespace before each cell that a check goes back to: names, and the states of their generators


def names():
    return IPython.get_ipython().user_ns


def keep(place):
    """Remember the namespace as it is before the cell of that number."""
    random = getattr(sys.modules.get("numpy"), "random", None)
    generators = [v.bit_generator for v in names().values() if random and isinstance(v, random.Generator)]
    PLACES[place] = dict(names()), [(generator, generator.state) for generator in generators]


@contextmanager
def off_screen():
    """Figures are drawn on a canvas that nobody sees, and closed at the end."""
    import matplotlib.pyplot as plt

    backend, show = plt.get_backend(), plt.show
    plt.switch_backend("agg")
    plt.show = lambda *args, **kwargs: None
    try:
        yield plt
    finally:
        plt.close("all")
        plt.switch_backend(backend)
        plt.show = show


def attempt(source, place):
    """The exception that `source` raises when it stands before the cell of that number; None if it runs through."""
    namespace, states = PLACES[place]
    for generator, state in states:
        generator.state = state
    with off_screen():
        try:
            execute(source, dict(namespace))
        except Exception as error:
            return error
    return None


def execute(source, namespace):
    name = f"<attempt {hash(source)}>"
    linecache.cache[name] = len(source), None, source.splitlines(True), name  # as in a notebook, the source is at hand
    exec(compile(ast.parse(source), name, "exec"), namespace)


def unsolved_exercise_fails(stub, place):
    error = attempt(stub, place)
    assert error is not None, "the stub passes its check unsolved"
    assert not isinstance(error, (NameError, SyntaxError)), repr(error)


def last_assertion_can_fail(negated, place):
    error = attempt(negated, place)
    assert isinstance(error, AssertionError), repr(error)


def moving():
    """The explorables and labs that the chapter displayed or left in its namespace."""
    from w2s_lib.figures import Explorable, Lab

    things = [*names()["Out"].values(), *names().values()]
    figures = list({id(thing): thing for thing in things if isinstance(thing, (Explorable, Lab))}.values())
    assert figures, "no explorable figure"
    return figures


def labs():
    return [figure for figure in moving() if hasattr(figure, "twin")]


def moving_figures_come_alive():
    """With a kernel and without W2S_STATIC, as a reader has them: an error while drawing fails the cell."""
    static = os.environ.pop("W2S_STATIC")
    try:
        for figure in moving():
            IPython.display.display(figure)
    finally:
        os.environ["W2S_STATIC"] = static


def moving_figures_are_small_and_the_same_in_every_build():
    for figure in moving():
        assert len(getattr(figure, "twin", figure).static_html.encode()) <= 500_000
        assert " at 0x" not in repr(figure)


def labs_draw_a_picture_of_its_own_for_every_state():
    assert labs(), "no lab"
    with off_screen() as plt:
        for lab in labs():
            check_states(lab, plt)


def check_states(lab, plt):
    pictures = {tuple(state.values()): picture(lab, state, plt) for state in lab.grid()}
    first = lab.grid()[0]
    assert picture(lab, first, plt) == pictures[tuple(first.values())], "it draws by chance: seed it"
    for i, (control, states) in enumerate(lab.states.items()):
        for here, drawn in pictures.items():
            if here[i] != states[-1]:
                there = (*here[:i], states[states.index(here[i]) + 1], *here[i + 1 :])
                assert drawn != pictures[there], f"dead control {control}: {here} and {there} look the same"


def picture(lab, state, plt):
    """The pixels that a lab draws, as a hash."""
    plt.close("all")
    lab.draw(**state)
    assert len(plt.get_fignums()) == 1, f"{state}: {len(plt.get_fignums())} figures instead of one"
    canvas = plt.gcf().canvas
    canvas.draw()
    return hash(bytes(canvas.buffer_rgba()))
