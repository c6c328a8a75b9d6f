"""maa-assess: does a patient's blood count meet a published definition of aplastic anemia?"""

__version__ = "0.1.0"
