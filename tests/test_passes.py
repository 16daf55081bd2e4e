"""What is put around a model's pass. A GPU's error is raised in its place; models and numbers are real."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel

from rankrepro import passes


class Memory:
    """A forward pass that holds `rows` at a time."""

    def __init__(self, forward: Any, rows: int) -> None:
        self.forward, self.rows, self.asked = forward, rows, list[int]()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        n = len((*args, *kwargs.values())[0])
        self.asked.append(n)
        if n > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.forward(*args, **kwargs)


@pytest.fixture(scope="module")
def bert() -> BertModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return BertModel(BertConfig(vocab_size=50, **sizes)).eval()


def test_a_batch_that_does_not_fit_is_read_in_halves_and_so_are_those_after_it(
    bert: BertModel, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens = {"input_ids": torch.arange(40).reshape(8, 5), "attention_mask": torch.ones(8, 5, dtype=torch.long)}
    tokens["attention_mask"][3, 2:] = 0
    memory = Memory(bert, 3)
    read = passes.in_halves(memory, "bert")
    with torch.inference_mode():
        whole, parts = bert(**tokens), read(**tokens)
        again = read(**tokens)
    assert memory.asked == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]
    assert type(parts) is type(whole) and set(parts) == set(whole)
    for output in (parts, again):
        torch.testing.assert_close(output.last_hidden_state, whole.last_hidden_state)
    assert "bert: out of memory with 4 rows at a time: 2 from now on" in capsys.readouterr().out


def test_tensors_and_other_arguments() -> None:
    x = torch.arange(10.0).reshape(5, 2)
    memory = Memory(lambda x, floor: x.clamp(min=floor) * 2, 2)
    with torch.inference_mode():
        assert torch.equal(passes.in_halves(memory, "vision")(x, 3.0), x.clamp(min=3) * 2)
    assert memory.asked == [5, 2, 2, 1]


def test_one_row_a_training_step_and_other_errors_are_errors() -> None:
    x = torch.zeros(4, 2)
    none = Memory(lambda x: x, 0)
    with torch.inference_mode(), pytest.raises(torch.OutOfMemoryError):
        passes.in_halves(none, "m")(x)
    assert none.asked == [4, 2, 1]
    some = Memory(lambda x: x, 2)
    with pytest.raises(torch.OutOfMemoryError):
        passes.in_halves(some, "m")(x)
    assert some.asked == [4]

    def broken(x: torch.Tensor) -> torch.Tensor:
        raise ValueError("other")

    with torch.inference_mode(), pytest.raises(ValueError, match="other"):
        passes.in_halves(broken, "m")(x)
