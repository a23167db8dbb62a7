#!/usr/bin/env python3
"""As much of grpcurl as the recipes use, knowing nothing but what reflection tells it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)


def objects(text: str) -> Iterator[Any]:
    """Yield the JSON values in a text, one after another."""
    decoder, at = json.JSONDecoder(), 0
    while at < len(text.rstrip()):
        while text[at].isspace():
            at += 1
        value, at = decoder.raw_decode(text, at)
        yield value


def described(known: ProtoReflectionDescriptorDatabase, symbol: str) -> str:
    """Return what a method takes and gives, asking for the file in which the method itself is."""
    file = known.FindFileContainingSymbol(symbol)
    service, _, name = symbol.rpartition(".")
    found = next(s for s in file.service if f"{file.package}.{s.name}" == service)
    method = next(m for m in found.method if m.name == name)
    takes = "stream " * method.client_streaming + method.input_type
    gives = "stream " * method.server_streaming + method.output_type
    return f"rpc {name} ( {takes} ) returns ( {gives} );"


def main(arguments: list[str]) -> None:
    """Do what the command line says and print JSON."""
    data = "{}"
    rest: list[str] = []
    while arguments:
        word = arguments.pop(0)
        if word == "-d":
            data = arguments.pop(0)
        elif word != "-plaintext":
            rest.append(word)
    address, what, *more = rest
    with grpc.insecure_channel(address) as channel:
        known = ProtoReflectionDescriptorDatabase(channel)
        if what == "list":
            print("\n".join(known.get_services()))
            return
        pool = descriptor_pool.DescriptorPool(known)
        if what == "describe":
            print(described(known, *more))
            return
        service, name = what.split("/")
        method = pool.FindServiceByName(service).FindMethodByName(name)
        asked = message_factory.GetMessageClass(method.input_type)
        answer = message_factory.GetMessageClass(method.output_type)
        text = sys.stdin.read() if data == "@" else data
        requests = [json_format.ParseDict(value, asked()) for value in objects(text)]
        call = channel.stream_stream(
            f"/{service}/{name}",
            request_serializer=asked.SerializeToString,
            response_deserializer=answer.FromString,
        )
        for found in call(iter(requests), timeout=60):
            print(json_format.MessageToJson(found, preserving_proto_field_name=True))


if __name__ == "__main__":
    main(sys.argv[1:])
