"""Has a timestamp authority say that a checkpoint existed at some time (RFC 3161, over HTTP as in its section 3.4)."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import httpx2
from cryptography.x509 import Certificate, load_pem_x509_certificates
from rfc3161_client import HashAlgorithm, TimestampRequestBuilder, VerificationError, decode_timestamp_response
from rfc3161_client.tsp import PKIStatus
from rfc3161_client.verify import VerifierBuilder

from regie.core.errors import InvalidInput, NotVerified, Unavailable
from regie.notary.anchoring import Question
from regie.store.attesting import Kind, Party

MOST_ANSWER_BYTES = 65_536
HEADERS = {"Content-Type": "application/timestamp-query", "Accept": "application/timestamp-reply"}


class TimestampAuthority:
    """One authority.

    Args:
        url: Where it answers.
        ca: PEM file of the certificates that its tokens must lead to. It is read anew each time.
        http: The client to ask with.
    """

    def __init__(self, url: str, ca: Path | None, http: httpx2.AsyncClient) -> None:
        self._url = url
        self._ca = ca
        self._http = http
        self.party = Party(Kind.TIMESTAMP, urlsplit(url).netloc.rpartition("@")[2])

    async def attest(self, question: Question) -> bytes:
        """Get a token over a checkpoint, check it, and give the whole response (DER).

        Raises:
            InvalidInput: Nobody has said which certificates to trust.
            Unavailable: It does not answer, or refuses.
            NotVerified: Its token is over something else, or not signed as it must be.
        """
        roots = self._roots()
        request = (
            TimestampRequestBuilder()
            .data(question.note)
            .hash_algorithm(HashAlgorithm.SHA256)
            .cert_request(cert_request=True)
            .nonce(nonce=True)
            .build()
        )
        try:
            answer = await self._http.post(self._url, content=request.as_bytes(), headers=HEADERS)
        except httpx2.HTTPError as error:
            raise Unavailable(f"{self.party.name} does not answer: {type(error).__name__}.") from None
        if answer.status_code != 200 or len(answer.content) > MOST_ANSWER_BYTES:
            raise Unavailable(f"{self.party.name} answered {answer.status_code}, {len(answer.content)} bytes.")
        try:
            response = decode_timestamp_response(answer.content)
            if PKIStatus(response.status) is not PKIStatus.GRANTED:
                raise Unavailable(f"{self.party.name} gives no timestamp: {PKIStatus(response.status).name.lower()}.")
            VerifierBuilder(roots=roots, nonce=request.nonce).build().verify_message(response, question.note)
        except ValueError:
            raise NotVerified(f"{self.party.name} answered with something that is no token.") from None
        except VerificationError as error:
            raise NotVerified(f"The token of {self.party.name} does not hold: {error}.") from None
        return answer.content

    def _roots(self) -> list[Certificate]:
        if self._ca is None:
            raise InvalidInput("REGIE_TIMESTAMP_CA must name the certificates that tokens lead to.")
        try:
            return load_pem_x509_certificates(self._ca.read_bytes())
        except (OSError, ValueError) as error:
            raise InvalidInput(f"REGIE_TIMESTAMP_CA cannot be read: {type(error).__name__}.") from None
