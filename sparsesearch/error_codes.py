"""Every code of an error or a warning: what it means and what to do. `ERRORS.md` is generated from this table."""

from __future__ import annotations

from typing import Literal, NamedTuple

# input: exit code 2; environment, damaged, run: 3; infeasible: 4; warning: a line on stderr, nothing ends.
Kind = Literal["input", "environment", "damaged", "run", "infeasible", "warning"]


class ErrorCode(NamedTuple):
    """What a code means.

    Attributes:
        kind: decides the class of the error and with it the exit code.
        cause: when it is raised, one sentence.
        remedy: what to do, one sentence.
    """

    kind: Kind
    cause: str
    remedy: str


# SS1xx recipe and space, SS2xx model and data, SS3xx machine and launch, SS4xx during a run, SS5xx picks and exports,
# SS6xx run directory, SS9xx faults of sparsesearch.
CODES: dict[str, ErrorCode] = {
    "SS100": ErrorCode("input", "", ""),
    "SS101": ErrorCode("input", "", ""),
    "SS102": ErrorCode("input", "", ""),
    "SS103": ErrorCode("input", "", ""),
    "SS104": ErrorCode("input", "", ""),
    "SS105": ErrorCode("input", "", ""),
    "SS106": ErrorCode("input", "", ""),
    "SS107": ErrorCode("input", "", ""),
    "SS108": ErrorCode("input", "", ""),
    "SS109": ErrorCode("input", "", ""),
    "SS110": ErrorCode("input", "", ""),
    "SS111": ErrorCode("input", "", ""),
    "SS112": ErrorCode("input", "", ""),
    "SS113": ErrorCode("input", "", ""),
    "SS114": ErrorCode("input", "", ""),
    "SS115": ErrorCode("input", "", ""),
    "SS116": ErrorCode("input", "", ""),
    "SS117": ErrorCode("input", "", ""),
    "SS118": ErrorCode("input", "", ""),
    "SS119": ErrorCode("input", "", ""),
    "SS120": ErrorCode("input", "", ""),
    "SS121": ErrorCode("input", "", ""),
    "SS122": ErrorCode("input", "", ""),
    "SS123": ErrorCode("input", "", ""),
    "SS124": ErrorCode("input", "", ""),
    "SS125": ErrorCode("input", "", ""),
    "SS126": ErrorCode("input", "", ""),
    "SS127": ErrorCode("input", "", ""),
    "SS128": ErrorCode("input", "", ""),
    "SS129": ErrorCode("input", "", ""),
    "SS201": ErrorCode("input", "", ""),
    "SS202": ErrorCode("input", "", ""),
    "SS203": ErrorCode("input", "", ""),
    "SS204": ErrorCode("input", "", ""),
    "SS205": ErrorCode("input", "", ""),
    "SS206": ErrorCode("input", "", ""),
    "SS207": ErrorCode("input", "", ""),
    "SS208": ErrorCode("input", "", ""),
    "SS209": ErrorCode("input", "", ""),
    "SS210": ErrorCode("input", "", ""),
    "SS211": ErrorCode("input", "", ""),
    "SS212": ErrorCode("input", "", ""),
    "SS213": ErrorCode("input", "", ""),
    "SS214": ErrorCode("input", "", ""),
    "SS215": ErrorCode("input", "", ""),
    "SS216": ErrorCode("input", "", ""),
    "SS217": ErrorCode("input", "", ""),
    "SS218": ErrorCode("input", "", ""),
    "SS219": ErrorCode("input", "", ""),
    "SS230": ErrorCode("input", "", ""),
    "SS231": ErrorCode("input", "", ""),
    "SS232": ErrorCode("input", "", ""),
    "SS233": ErrorCode("input", "", ""),
    "SS234": ErrorCode("input", "", ""),
    "SS235": ErrorCode("input", "", ""),
    "SS300": ErrorCode("environment", "", ""),
    "SS301": ErrorCode("environment", "", ""),
    "SS302": ErrorCode("environment", "", ""),
    "SS303": ErrorCode("input", "", ""),
    "SS304": ErrorCode("environment", "", ""),
    "SS305": ErrorCode("environment", "", ""),
    "SS306": ErrorCode("damaged", "", ""),
    "SS307": ErrorCode("environment", "", ""),
    "SS308": ErrorCode("environment", "", ""),
    "SS309": ErrorCode("environment", "", ""),
    "SS310": ErrorCode("environment", "", ""),
    "SS311": ErrorCode("environment", "", ""),
    "SS312": ErrorCode("environment", "", ""),
    "SS400": ErrorCode("run", "", ""),
    "SS402": ErrorCode("warning", "", ""),
    "SS403": ErrorCode("run", "", ""),
    "SS405": ErrorCode("infeasible", "", ""),
    "SS406": ErrorCode("infeasible", "", ""),
    "SS407": ErrorCode("run", "", ""),
    "SS408": ErrorCode("run", "", ""),
    "SS409": ErrorCode("warning", "", ""),
    "SS410": ErrorCode("warning", "", ""),
    "SS411": ErrorCode("warning", "", ""),
    "SS412": ErrorCode("warning", "", ""),
    "SS413": ErrorCode("warning", "", ""),
    "SS500": ErrorCode("input", "", ""),
    "SS501": ErrorCode("input", "", ""),
    "SS502": ErrorCode("input", "", ""),
    "SS504": ErrorCode("input", "", ""),
    "SS505": ErrorCode("input", "", ""),
    "SS506": ErrorCode("run", "", ""),
    "SS507": ErrorCode("run", "", ""),
    "SS508": ErrorCode("input", "", ""),
    "SS600": ErrorCode("input", "", ""),
    "SS601": ErrorCode("damaged", "", ""),
    "SS602": ErrorCode("input", "", ""),
    "SS900": ErrorCode("run", "", ""),
}
