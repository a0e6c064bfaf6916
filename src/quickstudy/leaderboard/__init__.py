"""A leaderboard of files: anybody can add a row that others can check.

    entry          a row's file: a result with its provenance, and what is wrong with it
    board          rows (over seeds), a table a task; ranks and filters
    reading        files -> rows -> tables
    significance   tables -> pairs on the same episodes, Holm's correction, groups that cannot be told apart
    published      papers' figures, which are never ranked among measured ones
    adding         a result -> its checkpoint is tested again on a sample of episodes -> a row
    again          the sample, and whether its figures come out
    leaks          whether what is tested on was trained or selected on, by name and by content
    text           the board on a terminal, and as JSON
    page, plot     the board as one HTML file (page.html.j2, page.css, page.js)

``quickstudy leaderboard`` is the command; docs/leaderboard.md has the rules.
"""

from quickstudy.evaluate.modelindex import model_index
from quickstudy.leaderboard.adding import Added, add
from quickstudy.leaderboard.board import Board, Row, Table
from quickstudy.leaderboard.entry import Entry, Provenance, read_entry
from quickstudy.leaderboard.page import render_page, write_page
from quickstudy.leaderboard.published import Published, published
from quickstudy.leaderboard.reading import read_board
from quickstudy.leaderboard.significance import Pair, holm
from quickstudy.leaderboard.text import render_board

__all__ = [
    "Added",
    "Board",
    "Entry",
    "Pair",
    "Provenance",
    "Published",
    "Row",
    "Table",
    "add",
    "holm",
    "model_index",
    "published",
    "read_board",
    "read_entry",
    "render_board",
    "render_page",
    "write_page",
]
