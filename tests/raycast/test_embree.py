import numpy as np

from ln3d.raycast.embree import RayCaster


def first_hits_by_hand(vertices, faces, origins, directions):
    """Möller and Trumbore (1997), every ray against every triangle, in float64."""
    a, b, c = (vertices[faces[:, k]].astype(np.float64) for k in range(3))
    e1, e2 = b - a, c - a
    best, face, weights = np.full(len(origins), np.inf), np.full(len(origins), -1), np.zeros((len(origins), 2))
    for i, (o, d) in enumerate(zip(origins.astype(np.float64), directions.astype(np.float64), strict=True)):
        p = np.cross(d, e2)
        det = (e1 * p).sum(1)
        s = o - a
        u = (s * p).sum(1) / det
        q = np.cross(s, e1)
        v = (d * q).sum(1) / det
        t = (e2 * q).sum(1) / det
        t = np.where((u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0), t, np.inf)
        if np.isfinite(t.min()):
            face[i], best[i] = t.argmin(), t.min()
            weights[i] = u[t.argmin()], v[t.argmin()]
    return face, best, weights


def test_first_hits_equal_brute_force():
    random = np.random.default_rng(0)
    vertices = random.normal(size=(60, 3)).astype(np.float32)
    faces = random.permutation(60).reshape(20, 3)
    origins = random.normal(size=(300, 3)).astype(np.float32) * 3
    directions = random.normal(size=(300, 3)).astype(np.float32) - origins
    face, distance, weights = first_hits_by_hand(vertices, faces, origins, directions)
    hits = RayCaster(vertices, faces).first_hits(origins, directions)
    assert 30 < (face >= 0).sum() < 300
    np.testing.assert_array_equal(hits.face, face)
    there = face >= 0
    np.testing.assert_allclose(hits.distance[there], distance[there], rtol=1e-4)
    np.testing.assert_allclose(np.stack([hits.u, hits.v], 1)[there], weights[there], atol=1e-4)
    assert (hits.distance[~there] == 0).all()


def test_nothing_is_hit_where_there_is_nothing():
    caster = RayCaster(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int64))
    hits = caster.first_hits(np.zeros((4, 3), np.float32), np.ones((4, 3), np.float32))
    assert hits.face.tolist() == [-1] * 4
    quad = RayCaster(np.eye(3, dtype=np.float32), np.array([[0, 1, 2]]))
    assert len(quad.first_hits(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32)).face) == 0


def test_no_ray_slips_between_triangles_that_share_an_edge():
    side = np.linspace(-1, 1, 33, dtype=np.float32)
    vertices = np.stack([*np.meshgrid(side, side), np.zeros((33, 33), np.float32)], -1).reshape(-1, 3)
    corner = (np.arange(32)[:, None] * 33 + np.arange(32)).reshape(-1, 1)
    faces = np.concatenate([corner + [0, 1, 34], corner + [0, 34, 33]])
    target = np.stack([*np.meshgrid(side[1:-1], side[1:-1]), np.zeros((31, 31), np.float32)], -1).reshape(-1, 3)
    origins = np.broadcast_to(np.float32([0.3, 0.2, 2]), target.shape)
    assert (RayCaster(vertices, faces).first_hits(origins, target - origins).face >= 0).all()
