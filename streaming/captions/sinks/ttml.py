"""TTML in the IMSC text profile, written by ttconv."""

from __future__ import annotations

import importlib.util
import io
from fractions import Fraction
from typing import Any

from ossicle.runtime.errors import CaptionError
from ossicle.streaming.captions.cue import Cue
from ossicle.streaming.captions.sinks.base import Finals, Shot, within_day
from ossicle.streaming.captions.sinks.files import Output, Target


class Ttml:
    """Collects final captions and writes one document a day; XML is whole only at its end."""

    def __init__(self, target: Target) -> None:
        if importlib.util.find_spec("ttconv") is None:
            raise CaptionError(
                "TTML is written by the package ttconv, which is not installed; "
                "install ossicle[captions]"
            )
        self.output = Output(target)
        self.written = 0
        self._finals = Finals()
        self._shots: list[Shot] = []
        self._day = 0

    def put(self, cue: Cue) -> None:
        """Take one line of the feed."""
        for shot in self._finals.put(cue):
            self._add(shot)

    def close(self) -> None:
        """Write the document."""
        for shot in self._finals.close():
            self._add(shot)
        self._write()

    def _add(self, shot: Shot) -> None:
        if self.output.path is not None:
            day, shot = within_day(shot)
            while self._day < day:
                self._write()
                self._day += 1
        self._shots.append(shot)

    def _write(self) -> None:
        data = document(self._shots)
        self.written += len(self._shots)
        self._shots = []
        self.output.begin(self._day)
        self.output.write(data)
        self.output.end()


def document(shots: list[Shot]) -> bytes:
    """Return an IMSC document of the captions, one region at the bottom."""
    from ttconv import model
    from ttconv.imsc.config import IMSCWriterConfiguration, TimeExpressionSyntaxEnum
    from ttconv.imsc.writer import from_model

    doc = model.ContentDocument()
    doc.set_lang(shots[0].language if shots else "en")
    region = _region(doc)
    doc.put_region(region)
    body, div = model.Body(doc), model.Div(doc)
    doc.set_body(body)
    body.push_child(div)
    div.set_region(region)
    for shot in shots:
        div.push_child(_paragraph(doc, shot))
    config = IMSCWriterConfiguration(time_format=TimeExpressionSyntaxEnum.clock_time)
    out = io.BytesIO()
    from_model(doc, config).write(out, encoding="utf-8", xml_declaration=True)
    return out.getvalue()


def _region(doc: Any) -> Any:
    from ttconv import model
    from ttconv import style_properties as style

    def percent(value: int) -> style.LengthType:
        return style.LengthType(value, style.LengthType.Units.pct)

    region, names = model.Region("bottom", doc), style.StyleProperties
    region.set_style(names.Origin, style.CoordinateType(x=percent(10), y=percent(75)))
    region.set_style(names.Extent, style.ExtentType(width=percent(80), height=percent(20)))
    region.set_style(names.DisplayAlign, style.DisplayAlignType.after)
    region.set_style(names.TextAlign, style.TextAlignType.center)
    return region


def _paragraph(doc: Any, shot: Shot) -> Any:
    from ttconv import model

    paragraph = model.P(doc)
    paragraph.set_id(f"c{shot.cue_id}")
    paragraph.set_lang(shot.language)
    paragraph.set_begin(Fraction(shot.start_ms, 1000))
    paragraph.set_end(Fraction(shot.end_ms, 1000))
    for i, line in enumerate(shot.text.split("\n")):
        if i:
            paragraph.push_child(model.Br(doc))
        span = model.Span(doc)
        span.push_child(model.Text(doc, line))
        paragraph.push_child(span)
    return paragraph
