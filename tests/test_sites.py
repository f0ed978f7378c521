"""Sites: a name reads back as the place it was written for, and nothing else is one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import InputError
from probes.sites import Kind, Site, require_site, sites_of
from tests.tiny_models import tiny


@given(st.integers(0, 200), st.sampled_from(Kind))
def test_a_site_reads_back_as_written(layer, kind):
    site = Site(layer, kind)
    assert Site.parse(str(site)) == site
    assert hash(Site.parse(str(site))) == hash(site)
    assert str(site) == f"{layer}.{kind.value}"
    assert Site(layer, kind.value) == site


@given(st.text() | st.from_regex(r"[-+0-9]{0,3}\.(resid_pre|pattern)?.?", fullmatch=True))
def test_text_that_is_no_site_is_refused(text):
    try:
        site = Site.parse(text)
    except InputError:
        return
    assert str(site) == text


def test_sites_of_a_model():
    assert list(map(str, sites_of(tiny("opt"), ["resid_post", "pattern"]))) == [
        "0.pattern",
        "0.resid_post",
        "1.pattern",
        "1.resid_post",
    ]
    with pytest.raises(InputError, match="'resid_mdi' is no kind of site; the kinds are resid_pre, query"):
        sites_of(tiny("opt"), ["resid_mdi"])
    assert list(map(str, sites_of(tiny("opt"), ["logits", "resid_mid"]))) == ["0.resid_mid", "1.resid_mid", "2.logits"]
    for layer in (0, 3):
        with pytest.raises(InputError, match=r"its logits are 2\.logits"):
            require_site(tiny("opt"), Site(layer, Kind.LOGITS))
    with pytest.raises(InputError, match="counts from 0"):
        Site(-1, Kind.RESID_PRE)
