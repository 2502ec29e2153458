import pytest

from detector.weights.address import is_address, normal, shown, split_user, without_secrets


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("https://host/a/b.pth", "https://host/a/b.pth"),
        ("https://me:word@host:80/b.pth", "https://host:80/b.pth"),
        ("https://me:w@rd@host/b.pth?key=1#x", "https://host/b.pth?.."),
        ("HTTPS://host/b.pth#key", "HTTPS://host/b.pth#.."),
        ("https://host?key=a/b@c", "https://host?.."),
        ("file:///a/b@c.pth", "file:///a/b@c.pth"),
        ("weights/me@home.pth?x", "weights/me@home.pth?x"),
        ("imagenet", "imagenet"),
    ],
)
def test_what_is_shown_of_an_address(text, said):
    assert shown(text) == said


def test_addresses_and_paths():
    assert all(map(is_address, ("http://a", "HTTPS://a", "File:///a")))
    assert not any(map(is_address, ("ftp://a", "a/http://b", "C:\\a", "http:/a")))
    assert normal("HTTPS://Host/A.pth?B") == "https://Host/A.pth?B"


def test_a_user_becomes_a_header():
    assert split_user("http://a%40b:c@host:1/x@y") == ("http://host:1/x@y", "Basic YUBiOmM=")
    assert split_user("http://host/x@y") == ("http://host/x@y", "")


def test_messages_of_others_lose_the_secrets():
    text = "cannot open me:word@host: /a?key=1 is gone"
    assert without_secrets(text, "http://me:word@host/a?key=1") == "cannot open ..@host: /a?.. is gone"
