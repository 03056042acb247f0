"""A writer behind a real server: answers, and every way in which they go wrong."""

import time

import pytest
from small_server import Letters, running

from tutelage.core.errors import DataError, RecipeError, ServerError
from tutelage.core.writing import Request
from tutelage.teachers.remote import Chat, Limits, OpenAIWriter, Patience, Plain, Server
from tutelage.teachers.remote.abreast import abreast

QUICK = Patience(tries=4, first=0.01, most=0.05)


@pytest.fixture(scope="module")
def server():
    return running()


@pytest.fixture(autouse=True)
def _well(server):
    server.ways()


def asked(count=6, **options):
    options = {"most_tokens": 4, "temperature": 1.0} | options
    return [Request(f"q{i}", (("user", f"the cat {i}"),), seed=i, **options) for i in range(count)]


def writer(server, route=None, lanes=4, **options):
    options = {"patience": QUICK, "limits": Limits(lanes=lanes)} | options
    return OpenAIWriter(Server(server.url, "tiny"), route, **options)


def by_key(answers):
    return {one.key: one for one in answers}


def test_every_request_gets_exactly_one_answer(server):
    with writer(server) as one:
        answers = list(one.write(asked(20)))
    assert sorted(a.key for a in answers) == sorted(f"q{i}" for i in range(20))
    assert {a.finish for a in answers} <= {"stop", "length"}
    assert {a.model for a in answers} == {"tiny-1"}
    assert all(a.tokens_written <= 4 and a.tokens_read > 8 and not a.error for a in answers)


def test_what_is_written_depends_on_the_request_and_not_on_its_lane(server):
    with writer(server, lanes=1) as one, writer(server, lanes=8) as many:
        alone, abreast = by_key(one.write(asked(8))), by_key(many.write(asked(8)))
    assert {k: a.text for k, a in alone.items()} == {k: a.text for k, a in abreast.items()}
    assert len({a.text for a in alone.values()}) > 1


def test_lines_are_kept_open_between_questions(server):
    with writer(server, lanes=2) as one:
        list(one.write(asked(12)))
        list(one.write(asked(12)))
        assert one.spent.tries == 24
    assert len({seen["line"] for seen in server.seen}) <= 2


def test_the_plain_route_goes_on_with_a_text(server):
    alone = Request("q", (("user", "the cat"),), most_tokens=3)
    with writer(server, Plain()) as one:
        (answer,) = one.write([alone])
    log_p, tokens = server.exact(Letters().encode("the cat").tokens), []
    tokens.append(int(log_p[-1].argmax()))  # temperature 0: the likeliest
    assert answer.text.startswith(Letters().decode(tokens))
    assert answer.tokens_read == len(Letters().encode("the cat"))


def test_the_plain_route_asks_for_a_template_where_there_are_several_messages(server):
    both = Request("q", (("system", "be brief"), ("user", "hi")), most_tokens=2)
    with writer(server, Plain()) as one, pytest.raises(RecipeError, match="'q' has 2 messages"):
        list(one.write([both]))
    plain = Plain(template=lambda said: "|".join(text for _, text in said))
    with writer(server, plain) as one:
        list(one.write([both]))
    assert server.seen[-1]["asked"] == "be brief|hi"


@pytest.mark.parametrize("route", [Chat(), Plain()])
def test_log_probabilities_are_those_of_the_model(server, route):
    text = "the cat"
    with writer(server, route) as one:
        (answer,) = one.write([Request("q", (("user", text),), most_tokens=1, top_logprobs=5)])
    prompt = text if isinstance(route, Plain) else f"user: {text}\n"
    best = server.exact(Letters().encode(prompt).tokens)[-1].topk(5)
    ((_, value, top),) = answer.logprobs
    assert value == pytest.approx(float(best.values[0]), abs=1e-5)
    right = best.values.tolist()
    # A text that stands for several tokens is told once.
    assert top
    assert all(min(abs(p - each) for each in right) < 1e-5 for _, p in top)


def test_log_probabilities_that_are_not_told_are_missed(server):
    server.ways(silent=True)
    with writer(server) as one:
        (answer,) = one.write(asked(1, top_logprobs=2))
    assert answer.finish == "error"
    assert "told no log-probabilities" in answer.error


def choice(**message):
    return {"choices": [{"message": message, "finish_reason": "stop"}]}


def test_an_empty_answer_is_an_answer(server):
    server.ways(plan=[{"change": choice(content=None)}, {"change": choice(content="")}])
    with writer(server) as one:
        answers = list(one.write(asked(2)))
    assert [(a.text, a.finish, a.error) for a in answers] == [("", "stop", "")] * 2


def test_reasoning_that_is_told_apart_is_kept_apart(server):
    server.ways(plan=[{"change": choice(content="4", reasoning_content="2 + 2 is 4.")}])
    with writer(server) as one:
        (answer,) = one.write(asked(1))
    assert (answer.text, answer.facts["reasoning"]) == ("4", "2 + 2 is 4.")


def test_halves_of_characters_become_readable_text(server):
    server.ways(plan=[{"change": choice(content="a\ud83d b")}])
    with writer(server) as one:
        (answer,) = one.write(asked(1))
    assert answer.text == "a� b"
    answer.text.encode()


@pytest.mark.parametrize(
    "change",
    [{"choices": []}, {"choices": "none"}, {"choices": [{"text": 3}]}, choice(content=[1, 2])],
)
def test_an_answer_of_another_form_says_so_and_raises_nothing(server, change):
    server.ways(plan=[{"change": change}])
    with writer(server) as one:
        (answer,) = one.write(asked(1))
    assert answer.finish == "error"
    assert "of another form" in answer.error
    assert "\n" not in answer.error


def test_an_answer_that_was_withheld_is_no_answer(server):
    server.ways(
        plan=[{"change": {"choices": [{"message": {}, "finish_reason": "content_filter"}]}}]
    )
    with writer(server) as one:
        (answer,) = one.write(asked(1))
    assert answer.finish == "error"
    assert "content_filter" in answer.error


def test_a_request_that_is_too_long_fails_alone(server):
    long = Request("long", (("user", "x" * 400),), most_tokens=4)
    with writer(server) as one:
        answers = by_key(one.write([long, *asked(3)]))
    assert "context length" in answers["long"].error
    assert [answers[f"q{i}"].error for i in range(3)] == [""] * 3


def test_two_requests_of_one_key_are_refused(server):
    with writer(server) as one, pytest.raises(DataError, match="two requests have the key 'q0'"):
        list(one.write([*asked(2), *asked(1)]))


def test_who_stops_listening_does_not_wait_for_what_is_under_way(server):
    server.ways(plan=[{}], always={"slow": 30})
    with writer(server, lanes=4) as one:
        answers = one.write(asked(9))
        next(answers)
        begun = time.monotonic()
        answers.close()
        assert time.monotonic() - begun < 5
        server.ways()
        assert len(list(one.write(asked(2)))) == 2  # and it can be asked again
    assert one.spent.failed >= 4


def test_requests_are_taken_as_they_are_needed(server):
    taken = []

    def many():
        for request in asked(1000):
            taken.append(request.key)
            yield request

    with writer(server, lanes=2) as one:
        answers = one.write(many())
        next(answers)
        assert len(taken) <= 8
        answers.close()


def test_a_server_without_the_model_is_told_in_one_line(server):
    wrong = OpenAIWriter(Server(server.url, "tinny"), patience=QUICK)
    with wrong, pytest.raises(ServerError, match="no model 'tinny'") as told:
        list(wrong.write(asked(3)))
    assert "\n" not in str(told.value)


def test_what_was_answered_beside_a_failure_is_given_before_it_is_told():
    found = []

    def work(number):
        if number == 3:
            raise ServerError("no")
        time.sleep(0.05)
        return number

    def each():
        for one in abreast(work, range(8), 8, lambda: None):
            found.append(one)

    with pytest.raises(ServerError):
        each()
    assert sorted(found) == [0, 1, 2, 4, 5, 6, 7]
