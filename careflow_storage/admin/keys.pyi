from careflow_storage.keys import *  # noqa: F403  # all of it has moved
