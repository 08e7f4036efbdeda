"""Spoken or typed requests that need no picture: arithmetic, commands, small talk, echoing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .words import COLOUR_NAMES, SHAPES, Turn, capital, number

if TYPE_CHECKING:
    from random import Random

ROOMS = ["kitchen", "bedroom", "office", "garden", "hall"]
DEVICES = ["light", "fan", "radio", "heater"]
APPS = ["calculator", "browser", "camera", "calendar", "music player", "mail"]
CHAT: list[tuple[str, list[str]]] = [
    ("Hello! How can I help?", ["Hello.", "Hi.", "Good morning.", "Good evening.", "Hello there."]),
    ("You are welcome.", ["Thank you.", "Thanks.", "Thank you very much."]),
    ("Goodbye!", ["Goodbye.", "Good night.", "See you later."]),
    ("I am fine, thank you.", ["How are you?", "How are you today?"]),
]


def arithmetic_turn(rng: Random) -> Turn:
    """A sum, a difference or a product of small numbers; the answer repeats the task."""
    kind = rng.randrange(3)
    if kind == 0:
        a, b = rng.randint(0, 10), rng.randint(0, 10)
        word, value = "plus", a + b
    elif kind == 1:
        a = rng.randint(0, 12)
        b = rng.randint(0, a)
        word, value = "minus", a - b
    else:
        a, b = rng.randint(0, 6), rng.randint(0, 6)
        word, value = "times", a * b
    task = f"{number(a)} {word} {number(b)}"
    form = rng.choice(["What is {}?", "What is {}?", "How much is {}?", "Calculate {}."])
    return Turn("arithmetic", form.format(task), capital(f"{task} is {number(value)}."))


def command_turn(rng: Random) -> Turn:
    """A simple command; the answer says what was understood, not that it was done."""
    kind = rng.randrange(7)
    if kind == 0:
        what = f"{number(rng.randint(1, 60))} {rng.choice(['minutes', 'seconds', 'hours'])}"
        form = rng.choice(["Set a timer for {}.", "Start a timer for {}."])
        return Turn("command", form.format(what), f"Understood: timer for {what}.")
    if kind == 1:
        return _switch(rng)
    if kind == 2:
        verb, app = rng.choice(["open", "close"]), rng.choice(APPS)
        return Turn("command", f"{capital(verb)} the {app}.", f"Understood: {verb} the {app}.")
    if kind == 3:
        when = f"{number(rng.randint(1, 12))} in the {rng.choice(['morning', 'evening'])}"
        form = rng.choice(["Wake me up at {}.", "Set an alarm for {}."])
        return Turn("command", form.format(when), f"Understood: alarm at {when}.")
    if kind == 4:
        way = rng.choice(["up", "down"])
        return Turn("command", f"Turn the volume {way}.", f"Understood: volume {way}.")
    if kind == 5:
        colour, room = rng.choice(COLOUR_NAMES), rng.choice(ROOMS)
        answer = f"Understood: {room} light {colour}."
        return Turn("command", f"Make the {room} light {colour}.", answer)
    order = rng.choice(["play the music", "stop the music", "play the next song", "take a picture"])
    return Turn("command", capital(order) + ".", f"Understood: {order}.")


def _switch(rng: Random) -> Turn:
    state, device, room = rng.choice(["on", "off"]), rng.choice(DEVICES), rng.choice(ROOMS)
    form = rng.choice(["Turn {s} the {d} in the {r}.", "Turn {s} the {r} {d}.", "Switch {s} the {r} {d}."])
    question = form.format(s=state, d=device, r=room)
    return Turn("command", question, f"Understood: {room} {device} {state}.")


def chat_turn(rng: Random) -> Turn:
    """A greeting or thanks."""
    answer, questions = rng.choice(CHAT)
    return Turn("chat", rng.choice(questions), answer)


def digits_sentence(rng: Random) -> str:
    """Two to five spoken digits: for transcription only."""
    return capital(" ".join(number(rng.randrange(10)) for _ in range(rng.randint(2, 5)))) + "."


def colours_sentence(rng: Random) -> str:
    """One to three colours: for transcription only."""
    return capital(" ".join(rng.choice(COLOUR_NAMES) for _ in range(rng.randint(1, 3)))) + "."


ECHO_WORDS = (
    COLOUR_NAMES
    + SHAPES
    + ROOMS
    + DEVICES
    + APPS
    + [number(value) for value in range(0, 61)]
    + [
        "minutes",
        "seconds",
        "hours",
        "small",
        "large",
        "left",
        "right",
        "top",
        "bottom",
        "open",
        "close",
        "morning",
        "evening",
        "volume",
        "up",
        "down",
        "on",
        "off",
        "the",
        "a",
        "plus",
        "minus",
        "times",
    ]
)


def echo_turn(rng: Random) -> Turn:
    """Copying, in many disguises: what lets unseen slot values come out right."""
    if rng.random() < 0.25:
        letters = "".join(rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") for _ in range(rng.randint(1, 7)))
        return Turn("echo", f"Say {letters}.", f"{letters}.")
    words = " ".join(rng.choice(ECHO_WORDS) for _ in range(rng.randint(1, 6)))
    verb = rng.choice(["Say", "Repeat", "Say", "Echo"])
    return Turn("echo", f"{verb} {words}.", capital(words) + ".")
