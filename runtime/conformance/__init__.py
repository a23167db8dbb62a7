"""The conformance kit: whether a model keeps the laws that every stream relies on."""

from ossicle.runtime.conformance.laws import LAWS
from ossicle.runtime.conformance.report import Report, Row
from ossicle.runtime.conformance.subject import Subject
from ossicle.runtime.conformance.trial import open_subject, verify

__all__ = ["LAWS", "Report", "Row", "Subject", "open_subject", "verify"]
