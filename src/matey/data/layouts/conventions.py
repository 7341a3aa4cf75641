"""What programs call their axes and times, and which of their points lie between grid points.

An axis is told by the attributes of its coordinate (CF conventions), else by its name. On a
staggered grid (an Arakawa C-grid) velocities lie on the faces of cells; where faces lie beside
centres is named as in xgcm: `outer` (one face more than there are centres), `inner` (one less),
`left` and `right` (as many).

Source: CF conventions 1.11, sections 4 and 7; https://xgcm.readthedocs.io/en/latest/grids.html; and
the manuals of the programs that the table in docs/formats.md names.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from matey.config import Axis
from matey.data.formats.encoding import number, text

Position = Literal["center", "face", "corner", "half", "left", "right", "inner", "outer"]

AXES: dict[Axis, str] = {
    "sample": "n sample samples trajectory trajectories run runs batch member members ensemble ens "
    "realization realisation realizations simulation case number init init_time initial_time "
    "initialization_time forecast_reference_time reference_time reftime",
    "time": "t time times step steps frame frames timestep snapshot snapshots record lead "
    "lead_time leadtime prediction_timedelta forecast_hour forecast_period fhour valid_time "
    "time_counter ocean_time xtime sim_time datetime date dates nt",
    "z": "z lev level levels plev pressure_level isobaric isobaricinhpa depth altitude bottom_top "
    "nz zc z_c z_rho s_rho deptht depthu depthv depthw nav_lev z_t st_ocean zl zh k nk kc "
    "model_level model_level_number hybrid pfull sigma z_l lev_p zaxis vertical layer layers nlev "
    "nlevel",
    "y": "y lat latitude south_north row rows ny yc y_c y_rho eta_rho eta_v eta_u eta_psi j nj jc "
    "yh yt yt_ocean grid_yt nlat nlats lats latitudes rlat grid_latitude projection_y_coordinate "
    "northing yaxis phi φ",
    "x": "x lon long longitude west_east col cols column columns nx xc x_c x_rho xi_rho xi_u xi_v "
    "xi_psi i ni ic xh xt xt_ocean grid_xt nlon nlons lons longitudes rlon grid_longitude "
    "projection_x_coordinate easting xaxis lambda λ",
    "component": "c channel channels component components comp variable variables field fields",
}
AXIS_OF: dict[str, Axis] = {word: axis for axis, words in AXES.items() for word in words.split()}


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


# Of an array without named axes these may be anything: a wavenumber, an index, a count.
NOT_POSITIONS = words(
    "i j k n c ic jc kc ni nj nk nx ny nz nt number date record step steps frame frames phi lambda "
    "sigma layer layers"
)
# Counters and clocks that stand beside the time of a simulation.
CLOCKS = words(
    "wall_time world_time timestep iteration write_number step steps frame frames record"
)
# Positions in files whose arrays, without names of axes, run z, y, x: cutouts of the Johns Hopkins
# Turbulence Database, and what else calls them so.
SLOWEST_FIRST = words("xcoor ycoor zcoor")
# When a forecast begins, and how far ahead it looks.
INITIAL = words(
    "init init_time initial_time initialization_time forecast_reference_time reference_time reftime"
)
LEADS = words(
    "lead lead_time leadtime prediction_timedelta forecast_hour forecast_period fhour step"
)
# Names of axes on faces, and where those lie; `face` is left, right or outer by their number.
FACES: tuple[tuple[str, Axis, Position], ...] = (
    (r"west_east_stag", "x", "outer"),  # WRF
    (r"south_north_stag", "y", "outer"),
    (r"bottom_top_stag", "z", "outer"),
    (r"xi_(u|psi)", "x", "inner"),  # ROMS, CROCO
    (r"eta_(v|psi)", "y", "inner"),
    (r"s_w|sc_w", "z", "outer"),
    (r"[xλ]_f([ac][ac])?|xf", "x", "face"),  # Oceananigans, CM1
    (r"[yφ]_([ac]f[ac]|f)|yf", "y", "face"),
    (r"z_([ac][ac]f|f)|zf", "z", "face"),
    (r"xg|i_g", "x", "left"),  # MITgcm
    (r"yg|j_g", "y", "left"),
    (r"zl|k_l", "z", "left"),
    (r"k_u", "z", "right"),
    (r"xp1", "x", "outer"),
    (r"yp1", "y", "outer"),
    (r"zp1|k_p1", "z", "outer"),
    (r"xq", "x", "corner"),  # MOM6
    (r"yq", "y", "corner"),
    (r"zi|z_i", "z", "outer"),
    (r"grid_x", "x", "outer"),  # FV3
    (r"grid_y", "y", "outer"),
    (r"phalf", "z", "outer"),
    (r"nip1", "x", "outer"),  # CM1
    (r"njp1", "y", "outer"),
    (r"nkp1", "z", "outer"),
    (r"xu", "x", "left"),  # PALM
    (r"yv", "y", "left"),
    (r"zw(_3d|_xy|_xz|_yz)?", "z", "right"),
    (r"z_w(_top)?", "z", "left"),  # POP
    (r"depthw", "z", "left"),  # NEMO
    (r"ilev", "z", "outer"),  # CAM
    (r"slat", "y", "inner"),
    (r"slon", "x", "left"),
)
# Where a program has these levels beside `deptht`, points lie right of the centres along an axis.
SHIFTED: dict[str, Axis] = {"depthu": "x", "depthv": "y"}  # NEMO
HALF = words("xh yh zh")  # of MicroHH, beside x, y, z; elsewhere (MOM6, CM1) centres are called so
CENTRES: tuple[tuple[str, Axis], ...] = (
    (r"[xλ]_c([ac][ac])?", "x"),  # Oceananigans
    (r"[yφ]_([ac]c[ac]|c)", "y"),
    (r"z_([ac][ac]c|c)", "z"),
    (r"zu(_3d|_xy|_xz|_yz)?", "z"),  # PALM
)
STANDARD_NAMES: dict[str, Axis] = {
    "time": "time",
    "forecast_period": "time",
    "forecast_reference_time": "sample",
    "realization": "sample",
    "latitude": "y",
    "grid_latitude": "y",
    "projection_y_coordinate": "y",
    "longitude": "x",
    "grid_longitude": "x",
    "projection_x_coordinate": "x",
    "air_pressure": "z",
    "altitude": "z",
    "depth": "z",
    "height": "z",
    "model_level_number": "z",
}
# https://docs.unidata.ucar.edu/netcdf-java: CoordinateAxisType
COORDINATE_TYPES: dict[str, Axis] = {
    "lat": "y",
    "lon": "x",
    "geox": "x",
    "geoy": "y",
    "geoz": "z",
    "height": "z",
    "pressure": "z",
    "time": "time",
    "runtime": "sample",
    "ensemble": "sample",
}
SINCE = re.compile(r"\s*\w+\s+since\s+\S+", re.IGNORECASE)
DEGREES = re.compile(r"degrees?_?(north|n|east|e)", re.IGNORECASE)


def axis_of(name: str) -> Axis | None:
    """The axis that a name stands for: `x`, `lon`, `x-coordinate`, `grid/t`, `time_axis`."""
    word = plain_word(name)
    for pattern, axis in (*((pattern, axis) for pattern, axis, _ in FACES), *CENTRES):
        if re.fullmatch(pattern, word):
            return axis
    if word not in AXIS_OF and re.fullmatch(r"time\d*|time_(centered|instant|average)", word):
        return "time"
    return AXIS_OF.get(word)


def plain_word(name: str) -> str:
    """The last part of a name in small letters, without what says that it is a coordinate."""
    word = name.split("/")[-1].lower()
    word = re.sub(r"_hash_[0-9a-f]+$|_sub\d+$", "", word)  # scales of Dedalus, parts of MOM6
    endings = "coordinates?|coords?|coors?|centers?|centres?|axis|values?|array"
    return re.sub(rf"[-_ ]?({endings})$", "", word)


def axis_by_attributes(attributes: Mapping[str, Any]) -> Axis | None:
    """The axis that a coordinate's attributes say it is of; None where they say nothing."""
    letter = text(attributes.get("axis", attributes.get("cartesian_axis", "")))  # CF; GFDL
    letter = letter.strip().upper()[:1]
    standard = text(attributes.get("standard_name", "")).strip().lower()
    units = text(attributes.get("units", "")).strip()
    kind = text(attributes.get("_CoordinateAxisType", "")).strip().lower()
    named: dict[str, Axis] = {"T": "time", "Z": "z", "Y": "y", "X": "x"}
    if standard in STANDARD_NAMES:
        return STANDARD_NAMES[standard]
    if letter in named:
        return named[letter]
    if kind in COORDINATE_TYPES:
        return COORDINATE_TYPES[kind]
    if SINCE.match(units):
        return "time"
    degrees = DEGREES.fullmatch(units)
    if degrees:
        return "y" if degrees[1].lower().startswith("n") else "x"
    vertical = standard.startswith(("atmosphere_", "ocean_")) and standard.endswith("_coordinate")
    upward = text(attributes.get("positive", "")).strip().lower() in ("up", "down")
    return "z" if vertical or upward else None


def position_of(name: str, attributes: Mapping[str, Any]) -> Position:
    """Whether points of an axis are centres of cells or faces, by attributes and name."""
    shift = number(attributes.get("c_grid_axis_shift"))
    if shift:
        return "left" if shift < 0 else "right"
    word = plain_word(name)
    return next((where for p, _, where in FACES if re.fullmatch(p, word)), "center")


def axes_of_dimensions(dims: Sequence[str], marks: Mapping[str, Axis]) -> tuple[Axis | None, ...]:
    """The axes of an array by the names of its dimensions; `marks` are those of which attributes
    tell. None where nothing tells.

    `height` is a variable elsewhere; among dimensions it is y beside `width`, as in images, else z.
    Of a forecast the time is that since it began, and each beginning is a sample.
    """
    plain = [plain_word(dim) for dim in dims]
    image: dict[str, Axis] = {"height": "y" if "width" in plain else "z", "width": "x"}
    special: dict[str, Axis] = {**image, "pressure": "z"}
    axes = [
        marks.get(dim) or special.get(word) or axis_of(dim)
        for dim, word in zip(dims, plain, strict=True)
    ]
    times = [place for place, axis in enumerate(axes) if axis == "time"]
    leads = [place for place in times if plain[place] in LEADS]
    if len(times) == 2 and len(leads) == 1:
        axes[next(place for place in times if place not in leads)] = "sample"
    begins = [place for place, word in enumerate(plain) if word in INITIAL]
    if not times and len(begins) == 1:
        axes[begins[0]] = "time"
    return tuple(axes)
