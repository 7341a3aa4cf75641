import torch

from matey.nn.attention import rotate, rotations


def test_turned_queries_and_keys_know_only_how_far_apart_they_are():
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 1, 1, 24)
    place, far = torch.rand(2, 1, 3)

    def product(at, other):
        turned = rotate(query, rotations(at, 24)) * rotate(key, rotations(other, 24))
        return turned.sum()

    here = product(place, far)
    for shift in (torch.tensor([0.3, 0.7, 0.1]), torch.tensor([1.0, 0.0, 2.0])):
        torch.testing.assert_close(product(place + shift, far + shift), here, rtol=1e-4, atol=1e-4)
    # Once around a periodic domain is the same place.
    torch.testing.assert_close(product(place, far + 1), here, rtol=1e-4, atol=1e-4)
    for axis in range(3):
        assert abs(product(place, far + 0.25 * torch.eye(3)[axis]) - here) > 1e-2
